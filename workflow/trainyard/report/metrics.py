"""Every metric, declared once: its kind of prediction, its direction, its figure.

A metric is an estimator over weighted groups: `estimator(data, reference)` does the work that does not depend on the
weights, and returns a function from weights (draws, groups) to values (draws,). All weights 1 give the plain figure;
other weights give bootstrap draws. Nearly all metrics are functions of sums, so a draw costs one row of a product.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Estimate = Callable[[np.ndarray], np.ndarray]
MOST_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class PartData:
    """Held-out predictions of one part on one split, for n items.

    `group` (n,) numbers the groups from 0. class: `target` (n,) and `prediction` (n, classes). values: `target` and
    `prediction` end to end, `owner` their item. tokens, share: `nll`, `correct`, `count` (n,).
    """

    kind: str
    item: np.ndarray
    group: np.ndarray
    groups: int
    target: np.ndarray
    prediction: np.ndarray
    owner: np.ndarray
    nll: np.ndarray
    correct: np.ndarray
    count: np.ndarray

    def sums(self, *columns: np.ndarray) -> np.ndarray:
        """Per-item columns (n,) summed by group: (groups, columns)."""
        return np.stack([np.bincount(self.group, np.asarray(c, np.float64), self.groups) for c in columns], axis=1)

    def value_sums(self, *columns: np.ndarray) -> np.ndarray:
        """Per-value columns summed by group: (groups, columns)."""
        where = self.group[self.owner]
        return np.stack([np.bincount(where, np.asarray(c, np.float64), self.groups) for c in columns], axis=1)


@dataclass(frozen=True)
class Metric:
    """`direction` is max or min; `low` and `high` bound the value (for intervals that are computed, not drawn)."""

    name: str
    kind: str
    direction: str
    estimator: Callable[[PartData, np.ndarray | None], Estimate | None]
    low: float | None = None
    high: float | None = None

    @property
    def sign(self) -> int:
        return 1 if self.direction == "max" else -1


def _ratio(sums: np.ndarray, after: Callable[[np.ndarray], np.ndarray] | None = None) -> Estimate:
    """First sum over second."""

    def estimate(weights: np.ndarray) -> np.ndarray:
        s = weights @ sums
        with np.errstate(invalid="ignore", divide="ignore"):
            value = s[:, 0] / s[:, 1]
        return after(value) if after else value

    return estimate


def _class_accuracy(data: PartData, reference: np.ndarray | None) -> Estimate:
    return _ratio(data.sums(data.prediction.argmax(1) == data.target, np.ones(len(data.target))))


def _log_loss(data: PartData, reference: np.ndarray | None) -> Estimate:
    p = data.prediction[np.arange(len(data.target)), data.target]
    return _ratio(data.sums(-np.log(np.maximum(p, 1e-12)), np.ones(len(p))))


def _macro_f1(data: PartData, reference: np.ndarray | None) -> Estimate:
    """Mean F1 over the classes that occur among the targets or the predictions."""
    said = data.prediction.argmax(1)
    classes = data.prediction.shape[1]
    hit, told, true = (np.zeros((data.groups, classes)) for _ in range(3))
    np.add.at(hit, (data.group, said), said == data.target)
    np.add.at(told, (data.group, said), 1)
    np.add.at(true, (data.group, data.target), 1)

    def estimate(weights: np.ndarray) -> np.ndarray:
        both = weights @ told + weights @ true
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.nanmean(np.where(both > 0, 2 * (weights @ hit) / both, np.nan), axis=1)

    return estimate


def _auc(data: PartData, reference: np.ndarray | None) -> Estimate | None:
    """Chance that a positive ranks above a negative, ties half (Mann-Whitney: https://doi.org/10.1214/aoms/1177730491).

    None unless there are two classes and both occur.
    """
    if data.prediction.shape[1] != 2 or len(np.unique(data.target)) != 2:
        return None
    order = np.argsort(data.prediction[:, 1], kind="stable")
    score, group, positive = data.prediction[order, 1], data.group[order], data.target[order] == 1
    starts = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]]))  # of equal scores

    def some(weights: np.ndarray) -> np.ndarray:
        w = weights[:, group].astype(np.float64)
        above = np.add.reduceat(w * positive, starts, axis=1)
        below = np.add.reduceat(w * ~positive, starts, axis=1)
        wins = (above * (below.cumsum(1) - 0.5 * below)).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return wins / (above.sum(1) * below.sum(1))

    def estimate(weights: np.ndarray) -> np.ndarray:
        step = max(1, MOST_ELEMENTS // len(group))
        return np.concatenate([some(weights[i : i + step]) for i in range(0, len(weights), step)])

    return estimate


def _rmse(data: PartData, reference: np.ndarray | None) -> Estimate:
    return _ratio(data.value_sums((data.prediction - data.target) ** 2, np.ones(len(data.target))), np.sqrt)


def _mae(data: PartData, reference: np.ndarray | None) -> Estimate:
    return _ratio(data.value_sums(np.abs(data.prediction - data.target), np.ones(len(data.target))))


def _r2(data: PartData, reference: np.ndarray | None) -> Estimate:
    """Share of the squared error that is gone, against `reference` (the training mean), else the targets' own mean."""
    wrong = (data.prediction - data.target) ** 2
    if reference is not None:
        return _ratio(data.value_sums(wrong, (reference - data.target) ** 2), lambda share: 1 - share)
    shift = data.target.mean() if len(data.target) else 0.0  # or the difference below loses its digits
    y = data.target - shift
    sums = data.value_sums(wrong, y, y**2, np.ones(len(y)))

    def estimate(weights: np.ndarray) -> np.ndarray:
        error, first, second, n = (weights @ sums).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - error / (second - first**2 / n)

    return estimate


def _token_nll(data: PartData, reference: np.ndarray | None) -> Estimate:
    return _ratio(data.sums(data.nll, data.count))


def _hits(data: PartData, reference: np.ndarray | None) -> Estimate:
    return _ratio(data.sums(data.correct, data.count))


METRICS = (
    Metric("accuracy", "class", "max", _class_accuracy, 0, 1),
    Metric("log_loss", "class", "min", _log_loss, 0),
    Metric("macro_f1", "class", "max", _macro_f1, 0, 1),
    Metric("auc", "class", "max", _auc, 0, 1),
    Metric("rmse", "values", "min", _rmse, 0),
    Metric("mae", "values", "min", _mae, 0),
    Metric("r2", "values", "max", _r2, None, 1),
    Metric("nll", "tokens", "min", _token_nll, 0),
    Metric("accuracy", "tokens", "max", _hits, 0, 1),
    Metric("share", "share", "max", _hits, 0, 1),
)
# Other names that found scripts may report, and which way is better.
ALSO_KNOWN = {
    "loss": "min", "mse": "min", "brier": "min", "error": "min", "perplexity": "min", "cross_entropy": "min",
    "f1": "max", "precision": "max", "recall": "max", "sensitivity": "max", "specificity": "max", "balanced_accuracy": "max",
    "roc_auc": "max", "average_precision": "max", "c_index": "max", "kappa": "max", "mcc": "max",
}  # fmt: skip


def metrics_of(kind: str) -> tuple[Metric, ...]:
    return tuple(m for m in METRICS if m.kind == kind)


def direction_of(name: str) -> str | None:
    """max, min, or None for a name that is not known."""
    return next((m.direction for m in METRICS if m.name == name), ALSO_KNOWN.get(name))


def bounds_of(name: str) -> tuple[float | None, float | None]:
    """Lowest and highest value a metric of that name can have."""
    return next(((m.low, m.high) for m in METRICS if m.name == name), (None, None))
