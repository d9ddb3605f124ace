"""A small results folder as the workflow leaves it: five suites, with folds, seeds, shards, merges, refused files and failures."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

START = datetime(2026, 1, 25, 19, 44, tzinfo=UTC)
UP = {"accuracy", "auc", "macro_f1", "r2", "share"}
PLAN = {
    "site": [8, 11],
    "rooms": [
        {"name": "living", "box": [0, 0, 4, 5], "area": 20, "door": "hall"},
        {"name": "kitchen", "box": [0, 5, 4, 3], "area": 12, "door": "hall"},
        {"name": "bath", "box": [0, 8, 4, 3], "area": 12, "door": "hall"},
        {"name": "hall", "box": [4, 0, 1, 11], "area": 11, "door": "outside"},
        {"name": "bed1", "box": [5, 0, 3, 6], "area": 18, "door": "hall"},
        {"name": "bed2", "box": [5, 6, 3, 5], "area": 15, "door": "hall"},
    ],
    "area": 88,
    "rate": 4,
    "cost": 352,
    "budget": 400,
    "fits": True,
}


class Tree:
    """Writes the files of a results folder; jobs for summary.json are collected on the way."""

    def __init__(self, root: Path, seed: int = 0):
        self.root, self.rng, self.jobs, self.clock = root, np.random.default_rng(seed), [], 0.0
        self.expected: dict[str, list[dict[str, str]]] = {}

    def json(self, path: str, value: Any) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(value), encoding="utf-8")

    def job(self, rule: str, suite: str, run: str, seconds: float, state: str = "done", **more: Any) -> None:
        started = START + timedelta(seconds=self.clock)
        self.clock += seconds * 0.55
        finished = (started + timedelta(seconds=seconds)).isoformat(timespec="seconds")
        self.jobs.append(
            {
                "rule": rule,
                "suite": suite,
                "run": run,
                "state": state,
                "attempts": 1,
                "seconds": seconds,
                "machine": "yard-1",
                "reason": "",
                "log": f"logs/{rule}/{suite}/{run}.log",
                "started": started.isoformat(timespec="seconds"),
                "finished": finished,
                **more,
            }
        )

    def metric(
        self,
        part: str,
        kind: str,
        metric: str,
        value: float,
        trivial: float | None,
        simple: float | None,
        n: int = 128,
        groups: int = 24,
        split: str = "test",
        width: float | None = None,
        names: tuple[str, str] = ("majority", "logistic regression"),
    ) -> dict[str, Any]:
        width = abs(value) * 0.06 + 0.004 if width is None else width
        sign = 1 if metric in UP else -1
        entry = {
            "part": part,
            "split": split,
            "kind": kind,
            "metric": metric,
            "value": value,
            "ci_low": value - width,
            "ci_high": min(value + width, 1.0) if metric in UP else value + width,
            "sd": width / 1.96,
            "direction": "max" if sign > 0 else "min",
            "n": n,
            "groups": groups,
        }
        for level, name, other in (("trivial", names[0], trivial), ("simple", names[1], simple)):
            if other is None:
                continue
            gain = sign * (value - other)
            p = float(np.clip(0.5 + gain / width / 2.6, 0.0005, 0.9998))
            entry[level] = {"name": name, "value": other}
            entry[f"vs_{level}"] = {
                "difference": gain,
                "ci_low": gain - 1.1 * width,
                "ci_high": gain + 1.1 * width,
                "sd": width / 1.8,
                "p_better": p,
            }
        return entry

    def run(
        self,
        suite: str,
        model: str,
        run: str,
        architecture: str,
        metrics: list[dict[str, Any]],
        *,
        seconds: float = 20.0,
        epochs: int = 10,
        best: int | None = None,
        parameters: int = 33_000,
        attempts: int = 1,
        notes: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        self.expected.setdefault(suite, []).append({"run": run, "model": model})
        place = f"{suite}/runs/{run}"
        best = best or max(1, epochs - 2)
        run_info = {
            "host": "yard-1",
            "platform": "Linux",
            "processor": "EPYC 7763",
            "cores": 2,
            "python": "3.12.3",
            "device": "cpu",
            "threads": 1,
            "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
            "commit": "da4f8ff0c0ffee",
            "dirty": False,
            "started": START.isoformat(),
            "finished": START.isoformat(),
        }
        train_info = {
            "epochs": epochs,
            "best_epoch": best,
            "steps": epochs * 40,
            "seconds": seconds,
            "parameters": parameters,
            "bytes": 4 * parameters + 900,
        }
        meta = {
            "fingerprint": "ab12",
            "code": "cd34",
            "settings": {
                "suite": suite,
                "run": run,
                "model": model,
                "architecture": architecture,
                "lr": 0.002,
                "batch_size": 16,
                "seed": 0,
                "fold": 0,
                "shard": 0,
                **settings,
            },
            "report": {},
        }
        head = {k: metrics[0][k] for k in ("part", "split", "metric")} if metrics else None
        self.json(f"{place}/train.json", {"run_info": run_info, "train_info": train_info, "meta_info": meta})
        self.json(
            f"{place}/metrics.json",
            {
                "suite": suite,
                "run": run,
                "model": model,
                "state": "done",
                "headline": head,
                "groups_known": True,
                "notes": list(notes),
                "run_info": run_info,
                "train_info": train_info,
                "meta_info": meta,
                "metrics": metrics,
            },
        )
        with open(self.root / place / "history.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("epoch", "step", "lr", "train_loss", "validation_loss"))
            for e in range(1, epochs + 1):
                train = 1.6 * np.exp(-e / epochs * 2.4) + 0.1 + self.rng.normal(0, 0.02)
                rows.writerow((e, e * 40, 0.002, round(train, 5), round(train + 0.05 + 0.02 * abs(e - best) + self.rng.normal(0, 0.02), 5)))
        self.job("train_model", suite, run, seconds, attempts=attempts)
        self.job("evaluate_model", suite, run, 1.2)

    def failed(self, suite: str, model: str, run: str, reason: str, log: str = "", attempts: int = 3) -> None:
        self.expected.setdefault(suite, []).append({"run": run, "model": model})
        self.job("train_model", suite, run, 4, "failed", reason=reason, attempts=attempts, **({"log": log} if log else {}))

    def predictions(self, suite: str, run: str, part: str, classes: int, n: int = 128, sharp: float = 2.5) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = self.rng.integers(0, classes, n)
        logits = self.rng.normal(0, 1, (n, classes))
        logits[np.arange(n), target] += sharp
        p = np.exp(logits)
        p /= p.sum(1, keepdims=True)
        floats = pa.list_(pa.float32())
        table = pa.table(
            {
                "item": [f"s{i}" for i in range(n)],
                "id": [f"s{i}" for i in range(n)],
                "group": [f"g{i % 20}" for i in range(n)],
                "split": ["test"] * n,
                "part": [part] * n,
                "kind": ["class"] * n,
                "target": pa.array([[float(t)] for t in target], floats),
                "prediction": pa.array(p.astype(np.float32).tolist(), floats),
                "nll": (-np.log(p[np.arange(n), target])).tolist(),
                "correct": (p.argmax(1) == target).astype(int).tolist(),
                "count": [1] * n,
            }
        )
        pq.write_table(table, self.root / suite / "runs" / run / "predictions.parquet")

    def dataset(
        self,
        suite: str,
        name: str,
        kind: str,
        sizes: tuple[int, int, int] = (640, 128, 128),
        labels: tuple[str, ...] = (),
        refused: tuple[tuple[str, str], ...] = (),
        groups_known: bool = True,
        folds: int = 0,
        shards: int = 0,
        notes: tuple[str, ...] = (),
    ) -> None:
        def part(n: int) -> dict[str, Any]:
            return {
                "samples": n,
                "groups": max(1, n // 6),
                "share": n / sum(sizes),
                **({"labels": {c: n // len(labels) for c in labels}} if labels else {}),
            }

        parts = {"all": part(sum(sizes))} if folds else dict(zip(("train", "validation", "test"), map(part, sizes)))
        summary: dict[str, Any] = {
            "format": kind,
            "samples": sum(sizes),
            "refused": len(refused),
            "groups": sum(sizes) // 6,
            "groups_known": groups_known,
            "seed": 0,
            "splits": parts,
            "notes": list(notes),
            "sha256": "0" * 64,
        }
        if folds:
            summary["folds"] = [{"fold": f, **part(sum(sizes) // folds)} for f in range(1, folds + 1)]
        if shards:
            summary["shards"] = [sizes[0] // shards] * shards
        self.json(f"{suite}/data/{name}/splits.json", summary)
        self.json(
            f"{suite}/packs/{name}/summary.json",
            {
                "samples": sum(sizes),
                "refused": len(refused),
                "duplicates": {"same split": 2, "other split": 1},
                "seconds": 3.4,
                "bytes": 1_234_567,
            },
        )
        with open(
            self.root / suite / "packs" / name / "quarantine.csv", "w", newline="", encoding="utf-8", errors="surrogateescape"
        ) as file:
            rows = csv.writer(file)
            rows.writerows([("path", "reason"), *refused])
        if labels:
            header = json.dumps(
                {"__metadata__": {"trainyard": json.dumps({"format": kind, "classes": sorted(labels), "length": 0})}}
            ).encode()
            pack = self.root / suite / "packs" / name / ("all.safetensors" if folds else "test.safetensors")
            pack.write_bytes(len(header).to_bytes(8, "little") + header)
        for rule, seconds in (("index_dataset", 0.6), ("split_dataset", 0.7), ("copy_to_local", 6.0)):
            self.job(rule, suite, name, seconds)

    def preflight(self, suite: str, model: str, verdict: str = "ok") -> None:
        checks = [
            {"check": "batch time", "value": "0.031 s", "limit": "0.5 s", "verdict": "ok", "advice": ""},
            {"check": "data on a local disk", "value": "ext4", "limit": "local", "verdict": "ok", "advice": ""},
            {
                "check": "memory",
                "value": "1.2 GB" if verdict == "ok" else "41 GB",
                "limit": "8 GB",
                "verdict": verdict,
                "advice": "" if verdict == "ok" else "lower batch_size",
            },
        ]
        self.json(f"{suite}/preflight/{model}.json", {"suite": suite, "model": model, "verdict": verdict, "checks": checks})

    def finish(self, state: str = "failed") -> None:
        from trainyard.report.compare import compare, write_csv

        counts = {s: sum(j["state"] == s for j in self.jobs) for s in ("done", "failed")}
        for suite in self.expected:
            self.job("compare_models", suite, "", 1.0)
        summary = {
            "started": START.isoformat(),
            "finished": (START + timedelta(seconds=self.clock)).isoformat(),
            "state": state,
            "command": "snakemake --profile local",
            "counts": counts,
            "jobs": self.jobs,
        }
        self.json("summary.json", summary)
        for suite, runs in self.expected.items():
            paths = [self.root / suite / "runs" / r["run"] / "metrics.json" for r in runs if not r["run"].endswith("-merged")]
            paths += list(self.root.glob(f"{suite}/merged/*/metrics.json"))
            found = compare(suite, paths, runs, summary, partial=True)
            self.json(f"{suite}/comparison.json", found)
            write_csv(self.root / suite / "comparison.csv", found["rows"])


def write_results(root: Path, seed: int = 0) -> Tree:
    """The whole folder. groove_predictor and parkinsons-fold3 failed; parkinsons is not shown to beat its simple baseline."""
    t = Tree(root, seed)
    _music(t)
    _performances(t)
    _video(t)
    _houses(t)
    _medicine(t)
    t.finish()
    return t


def _music(t: Tree) -> None:
    moods = ("angry", "calm", "happy", "sad")
    t.dataset(
        "kmidi",
        "m4singer",
        "audio",
        labels=moods,
        refused=(("Alto-1/My song #3.wav", "empty file"), ("Tenor-2/0007.wav", "RIFF size says 96 044 bytes, the file has 1 024")),
    )
    t.dataset("kmidi", "lakh", "midi", (160, 40, 40), refused=tuple((f"{i:x}/{i:032x}.mid", "not a MIDI file: no MThd") for i in range(14)))
    t.run(
        "kmidi",
        "emotion_recognizer",
        "emotion_recognizer",
        "emotion_recognizer",
        [
            t.metric("emotion", "class", "accuracy", 0.969, 0.25, 0.719),
            t.metric("emotion", "class", "log_loss", 0.112, 1.386, 0.82),
            t.metric("emotion", "class", "macro_f1", 0.967, 0.1, 0.71),
            t.metric("emotion", "class", "accuracy", 0.961, 0.25, 0.73, split="validation"),
        ],
        seconds=36,
        epochs=20,
    )
    t.predictions("kmidi", "emotion_recognizer", "emotion", 4)
    t.run(
        "kmidi",
        "dynamics_engine",
        "dynamics_engine",
        "dynamics_engine",
        [t.metric("loudness", "values", "rmse", 3.2, 5.3, 4.8, 96, 12, names=("mean", "linear per frame"))],
        seconds=4,
        epochs=15,
    )
    t.run(
        "kmidi",
        "harmony_predictor",
        "harmony_predictor",
        "harmony_predictor",
        [
            t.metric("chord", "tokens", "nll", 1.93, 3.1, 2.2, 3210, 40, names=("unigram", "trigram")),
            t.metric("chord", "tokens", "accuracy", 0.413, 0.11, 0.286, 3210, 40, names=("unigram", "trigram")),
        ],
        seconds=5,
        epochs=20,
        best=20,
    )
    for i, nll in enumerate((2.07, 2.09, 2.05), 1):
        t.run(
            "kmidi",
            "melody_transformer",
            f"melody_transformer-seed{i}",
            "melody_transformer",
            [
                t.metric("pitch", "tokens", "nll", nll, 3.3, 2.53, 8123, 40, names=("unigram", "bigram in the bar")),
                t.metric("duration", "tokens", "nll", 0.67 + 0.01 * i, 1.9, 1.57, 8123, 40, names=("unigram", "bigram in the bar")),
            ],
            seconds=12,
            seed=i,
        )
    t.failed(
        "kmidi",
        "groove_predictor",
        "groove_predictor",
        "the loss is nan at step 41 (epoch 2); the last checkpoint is kept. Lower the learning rate (0.9)",
    )
    for model in ("emotion_recognizer", "melody_transformer"):
        t.preflight("kmidi", model)
    t.preflight("kmidi", "dynamics_engine", "warn")


def _performances(t: Tree) -> None:
    t.dataset(
        "crescendai",
        "performances",
        "paired",
        (600, 100, 200),
        groups_known=False,
        notes=("groups unknown: samples of one person or piece may lie in several splits (leak)",),
    )
    dims = ("timing", "dynamics", "articulation", "pedal", "tone")
    for model, values, seconds in (
        ("audio_only", (-0.02, 0.7, 0.3, 0.35, 0.83), 13.0),
        ("midi_only", (0.83, 0.75, 0.8, 0.88, -0.07), 8.0),
        ("fusion", (0.82, 0.78, 0.81, 0.86, 0.83), 21.0),
    ):
        metrics = [t.metric("overall", "values", "r2", float(np.mean(values)), 0.0, 0.31, 200, 200, width=0.05, names=("mean", "ridge"))]
        metrics += [
            t.metric(d, "values", "r2", v, 0.0, 0.4 * v + 0.05, 200, 200, width=0.06, names=("mean", "ridge")) for d, v in zip(dims, values)
        ]
        metrics += [
            t.metric(d, "values", "rmse", 0.2 * (1 - v) + 0.05, 0.22, 0.17, 200, 200, names=("mean", "ridge")) for d, v in zip(dims, values)
        ]
        t.run("crescendai", model, model, model, metrics, seconds=seconds, epochs=20, parameters=180_000)


def _video(t: Tree) -> None:
    t.dataset("mono_to_3d", "trajectories", "video", (1600, 400, 400), labels=("circular", "helical", "linear", "parabolic"))
    rows = (
        ("i3d", 0.93, 0.115, 140_000, 34.0, 1),
        ("slowfast", 0.905, 0.124, 564_000, 34.0, 3),
        ("transformer", 0.952, 0.101, 368_000, 26.0, 1),
        ("magvit", 0.863, 0.145, 283_000, 59.0, 1),
    )
    for model, accuracy, rmse, parameters, seconds, attempts in rows:
        t.run(
            "mono_to_3d",
            model,
            model,
            model,
            [
                t.metric(
                    "trajectory", "class", "accuracy", accuracy, 0.25, 0.61, 400, 400, width=0.026, names=("majority", "logistic on motion")
                ),
                t.metric("next position", "values", "rmse", rmse, 0.417, 0.105, 400, 400, names=("mean", "constant velocity")),
            ],
            seconds=seconds,
            epochs=7,
            parameters=parameters,
            attempts=attempts,
        )
        t.predictions("mono_to_3d", model, "trajectory", 4, 400)


def _houses(t: Tree) -> None:
    t.dataset("housebrain", "plans", "chat", (3840, 128, 64), shards=6)
    for i in range(1, 7):
        t.run(
            "housebrain",
            "housebrain",
            f"housebrain-shard{i:02d}",
            "lora",
            [
                t.metric("answer", "tokens", "nll", 0.070 + 0.001 * i, 3.26, 1.862, 7424, 64, width=0.006, names=("unigram", "base model")),
                t.metric("valid json", "share", "share", 0.98, 0.0, 0.73, 64, 64, width=0.03, names=("none", "base model")),
            ],
            seconds=13,
            epochs=2,
            best=2,
            parameters=190_000,
            shard=i,
        )
    limits = (
        ("answer_loss", 0.075, "below 0.5"),
        ("megabytes", 0.9, "below 200"),
        ("valid_json", 0.98, "at least 0.9"),
        ("seconds_an_answer", 0.4, "below 5"),
        ("memory_gb", 0.7, "below 8"),
    )
    shares = {"valid_json": 0.98, "schema": 0.97, "geometry": 0.73, "brief": 0.55, "cost": 0.4}
    figures = {"answer_loss": 0.075, **shares, "seconds_an_answer": 0.4, "memory_gb": 0.7, "megabytes": 0.9}
    rows = [
        {
            "name": "base",
            "role": "base",
            "figures": {**figures, "answer_loss": 1.862, "valid_json": 0.73, "geometry": 0.09, "cost": 0.0, "megabytes": 0.0},
            "state": "",
            "reason": "",
        }
    ]
    rows += [
        {
            "name": f"housebrain-shard{i:02d}",
            "role": "shard",
            "figures": {**figures, "answer_loss": 0.07 + i / 1000, "geometry": 0.73 + i / 100},
            "state": "",
            "reason": "",
        }
        for i in range(1, 7)
    ]
    gates = [{"name": n, "figure": v, "limit": limit, "passed": True} for n, v, limit in limits]
    rows += [{"name": "average", "role": "merge", "figures": figures, "validation": {}, "gates": gates, "state": "passed", "reason": ""}]
    rows += [
        {"name": n, "role": "merge", "figures": {}, "state": "not tried", "reason": "average was accepted before"}
        for n in ("weighted", "best")
    ]
    sample = {
        "id": "test#1",
        "prompt": "Please plan a house with 2 bed on 8 x 11 m. We have 400 and want standard.",
        "answer": json.dumps(PLAN),
        "checks": {"valid JSON": "yes", "no rooms overlap": "yes", "cost": "no: budget 300, not 400"},
    }
    accepted = {
        "accepted": "average",
        "shown": "average",
        "reason": "average, the first of average, weighted, best, passes every limit on validation rows",
        "chosen_on": {"split": "validation", "rows": 128},
        "reported_on": {"split": "test", "rows": 64},
        "candidates": rows,
        "samples": [sample],
        "against": [
            {"name": "base", "difference": 1.787, "low": 1.7, "high": 1.9, "groups": 43},
            {"name": "housebrain-shard01", "difference": -0.004, "low": -0.007, "high": 0.001, "groups": 43},
            {"name": "housebrain-shard02", "difference": -0.003, "low": -0.005, "high": -0.001, "groups": 43},
        ],
    }
    t.json("housebrain/merged/housebrain/accepted.json", accepted)
    certificate = {
        "strategy": "average",
        "rank": 48,
        "exact": True,
        "base_model": "results/housebrain/base",
        "base_identity": "f00d" * 16,
        "weights": [1 / 6] * 6,
        "bytes": 912_000,
        "inputs": [{"folder": f"housebrain-shard{i:02d}", "sha256": f"{i}" * 64} for i in range(1, 7)],
        "same_file": False,
        "relative_error": 3.1e-8,
        "delta_norms": [2.1, 2.2, 2.0],
        "cosine": [[1, 0.61], [0.61, 1]],
        "layers": {"layers.0.q_proj": {"relative_error": 2e-8, "norm": 1}, "layers.1.q_proj": {"relative_error": 6e-8, "norm": 1}},
    }
    for strategy in ("average", "weighted", "best"):
        t.json(f"housebrain/merged/housebrain/{strategy}/certificate.json", {**certificate, "strategy": strategy})
    merged = [t.metric("answer", "tokens", "nll", 0.075, 3.26, 1.862, 7424, 64, width=0.006, names=("unigram", "base model"))]
    t.json(
        "housebrain/merged/housebrain/metrics.json",
        {
            "suite": "housebrain",
            "run": "housebrain-merged",
            "model": "housebrain",
            "state": "done",
            "headline": {k: merged[0][k] for k in ("part", "split", "metric")},
            "notes": [],
            "run_info": {},
            "train_info": {"seconds": 9.0, "parameters": 190_000, "bytes": 912_000},
            "meta_info": {},
            "metrics": merged,
        },
    )
    t.expected["housebrain"].append({"run": "housebrain-merged", "model": "housebrain"})
    t.job("merge_adapters", "housebrain", "average", 2.0)
    t.job("validate_merge", "housebrain", "average", 9.0)


def _medicine(t: Tree) -> None:
    for i, (model, auc, simple) in enumerate(
        (("als", 0.79, 0.6), ("alzheimers", 0.83, 0.63), ("parkinsons", 0.77, 0.78), ("cardiovascular", 0.76, 0.55))
    ):
        t.dataset("aimedres", model, "tabular", (700, 150, 150), labels=("healthy", model), folds=5)
        for fold in range(1, 6):
            run = f"{model}-fold{fold}"
            if run == "parkinsons-fold3":
                t.failed("aimedres", model, run, "CUDA out of memory at batch 1: try gradient checkpointing or a smaller subset")
                continue
            shift = float(t.rng.normal(0, 0.02))
            t.run(
                "aimedres",
                model,
                run,
                "tabular_mlp",
                [
                    t.metric("diagnosis", "class", "auc", auc + shift, 0.5, simple + shift / 2, 205, 70, width=0.05),
                    t.metric("diagnosis", "class", "accuracy", auc - 0.05 + shift, 0.52, simple - 0.02, 205, 70, width=0.05),
                ],
                seconds=2.0 + i,
                epochs=30,
                best=12,
                parameters=9_000,
                fold=fold,
            )
            t.predictions("aimedres", run, "diagnosis", 2, 205, 1.4)
    t.preflight("aimedres", "als", "fail")


if __name__ == "__main__":
    import sys

    write_results(Path(sys.argv[1]))
