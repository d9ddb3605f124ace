"""The files of a results folder, as the workflow's commands write them."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

START = datetime(2026, 1, 25, 19, 44, tzinfo=UTC)


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
        self.jobs.append({
            "rule": rule, "suite": suite, "run": run, "state": state, "attempts": 1, "seconds": seconds, "machine": "yard-1", "reason": "",
            "log": f"logs/{rule}/{suite}/{run}.log", "started": started.isoformat(timespec="seconds"), "finished": finished, **more,
        })  # fmt: skip

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
            "host": "yard-1", "platform": "Linux", "processor": "EPYC 7763", "cores": 2, "python": "3.12.3", "device": "cpu", "threads": 1,
            "versions": {"torch": "2.13.0", "numpy": "2.4.6"}, "commit": "da4f8ff0c0ffee", "dirty": False,
            "started": START.isoformat(), "finished": START.isoformat(),
        }  # fmt: skip
        train_info = {
            "epochs": epochs, "best_epoch": best, "steps": epochs * 40, "seconds": seconds, "parameters": parameters,
            "bytes": 4 * parameters + 900,
        }  # fmt: skip
        own = {
            "suite": suite, "run": run, "model": model, "architecture": architecture, "lr": 0.002, "batch_size": 16, "seed": 0, "fold": 0,
            "shard": 0, **settings,
        }  # fmt: skip
        meta = {"fingerprint": "ab12", "code": "cd34", "settings": own, "report": {}}
        head = {k: metrics[0][k] for k in ("part", "split", "metric")} if metrics else None
        self.json(f"{place}/train.json", {"run_info": run_info, "train_info": train_info, "meta_info": meta})
        self.json(f"{place}/metrics.json", {
            "suite": suite, "run": run, "model": model, "state": "done", "headline": head, "groups_known": True, "notes": list(notes),
            "run_info": run_info, "train_info": train_info, "meta_info": meta, "metrics": metrics,
        })  # fmt: skip
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
