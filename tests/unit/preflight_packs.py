"""Small packs of a table, and what preflight finds in them."""

import json
from pathlib import Path

import numpy as np
from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.features import TabularFeatures
from trainyard.config.jobs import ELSEWHERE, MACHINE
from trainyard.config.schema import Model
from trainyard.data.pack import PackWriter
from trainyard.train.preflight import Preflight


def job(**keys) -> dict:
    model = Model(architecture="tabular_mlp", dataset="d", epochs=3, batch_size=8).model_dump(mode="json", exclude=MACHINE | ELSEWHERE)
    options = ARCHITECTURES["tabular_mlp"].options().model_dump(mode="json")
    features = TabularFeatures().model_dump(mode="json")
    where = {"suite": "s", "run": "m", "model": "m", "format": "tabular", "fold": 0, "shard": 0, "seed": 0}
    return {**model, **where, "options": options, "features": features, **keys}


def write(path: Path, ids, groups, labels, values=None, classes=("no", "yes"), meta=None, **more) -> str:
    rng = np.random.default_rng(len(ids))
    meta = {"format": "tabular", "classes": list(classes), "numeric": ["a", "b"], "categorical": {}, **(meta or {})}
    with PackWriter(path, meta) as writer:
        for i, (id, group, label) in enumerate(zip(ids, groups, labels)):
            numeric = values[i] if values is not None else rng.normal(size=2)
            fixed = {"numeric": np.asarray(numeric, np.float32), "category": np.zeros(0, np.int16), "label": np.int64(label)}
            writer.add(fixed | {k: v[i] for k, v in more.items()}, {"id": id, "group": group})
    return str(path)


def packs(folder: Path, **changed) -> dict[str, str]:
    out = {}
    for split, n in (("train", 40), ("validation", 10), ("test", 10)):
        ids = [f"{split}{i}" for i in range(n)]
        keys = {"ids": ids, "groups": [f"g-{x}" for x in ids], "labels": [i % 2 for i in range(n)], **changed.get(split, {})}
        out[split] = write(folder / f"{split}.safetensors", **keys)
    return out


def check(report: dict, name: str) -> dict:
    found = [c for c in report["checks"] if c["check"] == name]
    assert found, f"no check {name} among {[c['check'] for c in report['checks']]}"
    return max(found, key=lambda c: ("ok", "warn", "fail").index(c["verdict"]))


def examine(files: dict[str, str], folder: Path, more: dict | None = None, **keys) -> dict:
    report = Preflight(job(**keys), files, checkpoints=str(folder / "checkpoints"), device="cpu", **(more or {})).run()
    json.dumps(report, allow_nan=False)
    for found in report["checks"]:
        assert found["verdict"] == "ok" or found["advice"], found
    return report
