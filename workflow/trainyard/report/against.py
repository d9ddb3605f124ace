"""One model's held-out loss beside others' on the same rows: differences with intervals, paired, drawn by groups."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainyard.data.predictions import PartOutput
from trainyard.report.intervals import draw, interval
from trainyard.report.metrics import Estimate


def against(ours: PartOutput, others: Mapping[str, PartOutput], groups: Sequence[str]) -> list[dict[str, Any]]:
    """Loss of each of the others less ours, in nats a token: above 0 ours is better. All are of the same n rows, whose groups
    (n,) are drawn whole; low and high are None where there are fewer than two groups."""
    names = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    place = np.array([names[g] for g in groups], np.int64)
    total = lambda column: np.bincount(place, np.asarray(column, np.float64), len(names))  # noqa: E731
    count = total(ours.count)

    def lead(other: PartOutput) -> Estimate:
        gap = total(np.asarray(other.nll, np.float64) - ours.nll)
        return lambda weights: (weights @ gap) / (weights @ count)

    if not others:
        return []
    values, drawn = draw([lead(other) for other in others.values()], len(names))
    found = []
    for i, name in enumerate(others):
        span = interval(float(values[i]), drawn[:, i], difference=True)
        found.append({"name": name, "difference": span.value, "low": span.low, "high": span.high, "groups": len(names)})
    return found


def mean_of(parts: Sequence[PartOutput]) -> PartOutput:
    """The loss that a model drawn from several has on average, row by row."""
    nll = np.mean([np.asarray(part.nll, np.float64) for part in parts], 0)
    return PartOutput.tokens(nll, np.zeros(len(nll), np.int64), parts[0].count)
