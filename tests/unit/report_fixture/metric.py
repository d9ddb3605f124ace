"""An entry of metrics.json: a figure with its interval, and what it gains over two baselines."""

from typing import Any

import numpy as np

UP = {"accuracy", "auc", "macro_f1", "r2", "share"}


def metric(
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
