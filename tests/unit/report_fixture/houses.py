"""The suite of shards and their merge: six adapters, the accepted one, its certificate, its limits and a sample."""

import json

from report_fixture.metric import metric
from report_fixture.tree import Tree

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


def houses(t: Tree) -> None:
    t.dataset("housebrain", "plans", "chat", (3840, 128, 64), shards=6)
    for i in range(1, 7):
        t.run(
            "housebrain",
            "housebrain",
            f"housebrain-shard{i:02d}",
            "lora",
            [
                metric("answer", "tokens", "nll", 0.070 + 0.001 * i, 3.26, 1.862, 7424, 64, width=0.006, names=("unigram", "base model")),
                metric("valid json", "share", "share", 0.98, 0.0, 0.73, 64, 64, width=0.03, names=("none", "base model")),
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
    merged = [metric("answer", "tokens", "nll", 0.075, 3.26, 1.862, 7424, 64, width=0.006, names=("unigram", "base model"))]
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
