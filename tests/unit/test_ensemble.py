"""Ensembles: the mean of probabilities and values, held against baselines and the best member."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trainyard.report.ensemble import average, best_member
from trainyard.report.evaluate import EvaluationError
from trainyard.report.promotion import Candidate

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
ITEMS = 120
RNG = np.random.default_rng(5)
TARGET = RNG.integers(0, 3, ITEMS)
POSITION = RNG.normal(size=(ITEMS, 3))


def rows(probabilities: np.ndarray, position: np.ndarray, shuffle: int = 0, **more: str) -> pa.Table:
    """A predictions table of both splits, each with all items, in an order of its own."""
    found = []
    for split in ("validation", "test"):
        for i in range(ITEMS):
            same = {"item": f"{split}{i}", "id": f"{split}{i}", "group": f"{split}g{i}", "split": split, "correct": 0, "count": 1, **more}
            same |= {"nll": 0.0}
            kind = {"part": "trajectory", "kind": "class", "target": [float(TARGET[i])], "prediction": probabilities[i].tolist()}
            place = {"part": "position", "kind": "values", "target": POSITION[i].tolist(), "prediction": position[i].tolist(), "count": 3}
            found += [{**same, **kind}, {**same, **place}]
    if shuffle > 1:
        np.random.default_rng(shuffle).shuffle(found)
    return pa.Table.from_pylist(found)


def guess(strength: float, seed: int) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(size=(ITEMS, 3)) + strength * np.eye(3)[TARGET]
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


@pytest.fixture
def members(tmp_path) -> list[Candidate]:
    found = []
    for k, strength in enumerate((1.0, 1.3, 1.0), 1):
        noisy = POSITION + np.random.default_rng(k).normal(size=POSITION.shape)
        pq.write_table(rows(guess(strength, k), noisy, shuffle=k), tmp_path / f"m{k}.parquet")
        train = {
            "train_info": {"seconds": 10.0 * k, "parameters": 100, "bytes": 400},
            "meta_info": {"settings": {"run": f"m{k}", "architecture": "i3d"}},
        }
        (tmp_path / f"m{k}.json").write_text(json.dumps(train))
        found.append(Candidate(f"m{k}", tmp_path / f"m{k}.parquet", train))
    return found


def by_item(table: pa.Table, part: str) -> dict[str, list[float]]:
    return {r["item"]: r["prediction"] for r in table.to_pylist() if r["part"] == part}


def test_the_mean_of_probabilities_and_values_item_by_item(members):
    table = average(members)
    assert table.num_rows == 4 * ITEMS
    for part in ("trajectory", "position"):
        own = [by_item(pq.ParquetFile(m.predictions).read(), part) for m in members]
        for item, found in by_item(table, part).items():
            assert found == pytest.approx(np.mean([o[item] for o in own], axis=0), rel=1e-5, abs=1e-6)
    assert best_member(members).run == "m2"


def test_the_ensemble_is_one_more_row_with_a_paired_comparison_against_its_best_member(members, tmp_path):
    plain = rows(np.full((ITEMS, 3), 1 / 3), np.zeros((ITEMS, 3)), level="trivial", name="guess")
    pq.write_table(plain, tmp_path / "base.parquet")
    settings = json.dumps({"suite": "mono_to_3d", "run": "ensemble", "model": "ensemble", "architecture": "i3d"})
    out = tmp_path / "ensemble"
    files = [m.predictions for m in members], [m.predictions.with_suffix(".json") for m in members]
    call("build_ensemble", "--settings", settings, "--predictions", *files[0], "--train-json", *files[1], "--baselines",
         tmp_path / "base.parquet", "--output", out)  # fmt: skip
    call("evaluate_model", "--settings", settings, "--predictions", out / "predictions.parquet", "--baselines", out / "baselines.parquet",
         "--train-json", out / "train.json", "--output", out / "metrics.json")  # fmt: skip
    found = json.loads((out / "metrics.json").read_text())
    accuracy = next(m for m in found["metrics"] if (m["split"], m["metric"]) == ("test", "accuracy"))
    own = float(np.mean((guess(1.0, 1) + guess(1.3, 2) + guess(1.0, 3)).argmax(1) == TARGET))
    best = float(np.mean(guess(1.3, 2).argmax(1) == TARGET))
    assert accuracy["value"] == pytest.approx(own) and accuracy["member"] == {"name": "m2", "value": pytest.approx(best)}
    gain = accuracy["vs_member"]
    assert gain["difference"] == pytest.approx(own - best) and gain["ci_low"] < gain["difference"] < gain["ci_high"]
    assert accuracy["trivial"]["name"] == "guess" and accuracy["vs_trivial"]["p_better"] > 0.975
    assert found["headline"]["metric"] == "accuracy" and any("beside its best member, m2" in n for n in found["notes"])
    assert found["train_info"] == {"seconds": 60.0, "parameters": 300, "bytes": 1200}
    assert found["meta_info"]["members"] == ["m1", "m2", "m3"]


def call(script: str, *args) -> None:
    done = subprocess.run([sys.executable, SCRIPTS / f"{script}.py", *map(str, args)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_cannot_be_averaged_is_refused(members, tmp_path):
    def changed(change) -> list[Candidate]:
        table = change(pq.ParquetFile(members[1].predictions).read())
        pq.write_table(table, tmp_path / "changed.parquet")
        return [members[0], Candidate("m2", tmp_path / "changed.parquet", members[1].train)]

    with pytest.raises(EvaluationError, match="m2 and m1 differ in the items"):
        average(changed(lambda t: t.slice(7)))
    with pytest.raises(EvaluationError, match="differ in the targets of trajectory|differ in the targets of position"):
        average(changed(lambda t: t.set_column(t.column_names.index("target"), "target", pa.array([[2.0]] * t.num_rows))))
    with pytest.raises(EvaluationError, match="share no part"):
        average(changed(lambda t: t.set_column(t.column_names.index("kind"), "kind", pa.array(["tokens"] * t.num_rows))))
