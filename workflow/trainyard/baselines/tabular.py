"""Baselines for tables: how frequent each class is, and logistic regression on the model's own inputs."""

from typing import Any

import numpy as np

from trainyard.baselines.base import Baseline
from trainyard.data.predictions import PartOutput
from trainyard.data.tabular_prepare import Preparation
from trainyard.data.views import View, labelled

PART = "diagnosis"
STRENGTHS = (0.01, 0.1, 1.0)


def baselines(settings: dict[str, Any], train: View, held: View) -> list[Baseline]:
    """Class frequencies (trivial) and logistic regression (simple), for the labelled rows of `held`."""
    rows, held_rows = labelled(train.pack, train.rows), labelled(held.pack, held.rows)
    classes = len(train.pack.meta["classes"])
    y, target = np.asarray(train.pack.fixed("label"))[rows], np.asarray(held.pack.fixed("label"))[held_rows]
    preparation = Preparation.fit(train.pack, rows)
    x, x_held = (preparation.apply(np.asarray(v.pack.fixed("numeric"))[r], np.asarray(v.pack.fixed("category"))[r])
                 for v, r in ((train, rows), (held, held_rows)))  # fmt: skip
    # One more row for every class: a class that is not in the training rows is unlikely, not impossible.
    frequency = (np.bincount(y, minlength=classes) + 1) / (len(y) + classes)
    groups = _group_numbers(train.pack, rows)
    both = {
        ("trivial", "class frequency"): np.tile(frequency, (len(held_rows), 1)),
        ("simple", "logistic regression"): _logistic(x, y, groups, x_held, classes),
    }
    items = held_rows[:, None]
    return [Baseline(level, name, items, {PART: PartOutput.classes(target, p)}) for (level, name), p in both.items()]


def _logistic(x: np.ndarray, y: np.ndarray, groups: np.ndarray, x_held: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities (n, classes) of L2 logistic regression, its strength chosen inside the training rows, by groups."""
    from sklearn.linear_model import LogisticRegression

    def fitted(strength: float, a: np.ndarray, b: np.ndarray) -> Any:
        return LogisticRegression(C=strength, max_iter=1000).fit(a, b)

    def probabilities(model: Any, a: np.ndarray) -> np.ndarray:
        p = np.zeros((len(a), classes))
        p[:, model.classes_] = model.predict_proba(a)
        return p

    losses = dict.fromkeys(STRENGTHS, 0.0)
    part = groups % 3
    for k in range(3):
        inside, outside = part != k, part == k
        if len(np.unique(y[inside])) < 2 or not outside.any():
            continue
        for strength in STRENGTHS:
            p = probabilities(fitted(strength, x[inside], y[inside]), x[outside])
            losses[strength] -= np.log(np.maximum(p[np.arange(outside.sum()), y[outside]], 1e-6)).sum()
    return probabilities(fitted(min(losses, key=losses.__getitem__), x, y), x_held)


def _group_numbers(pack: Any, rows: np.ndarray) -> np.ndarray:
    """A number for each row's group, in order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in pack.texts("group", rows)])
