"""Folds: k parts of even size, and of even shares of every label, that never divide a group."""

from collections.abc import Sequence

import numpy as np

from trainyard.config.dataset import Dataset
from trainyard.data.errors import DataError
from trainyard.data.files import unit_hash

MAX_CLASSES = 64  # more different labels than that are numbers or names, not classes to balance


def assign_folds(groups: Sequence[str], labels: Sequence[str | None], dataset: Dataset, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """fold (n,) from 1, and inner (n,): the groups that validate whenever their fold is not the test.

    Greedy, largest group first (ties by hash): each goes where sizes, and with `stratify` the counts of every label, come
    out most even. With folds f left out, some inner and some other groups always remain.
    """
    k, seed = dataset.folds, dataset.seed
    order = sorted(set(groups))
    number = {g: i for i, g in enumerate(order)}
    member = np.array([number[g] for g in groups], np.int64)
    classes = sorted({x for x in labels if x is not None})
    stratify = dataset.stratify and 1 < len(classes) <= min(MAX_CLASSES, max(2, len(labels) // k))
    if dataset.stratify and len(classes) > 1 and not stratify:
        notes.append(f"folds are not stratified: {len(classes)} different labels among {len(labels)} samples")
    if len(order) < max(4, k):
        raise DataError(f"{len(order)} group(s) cannot make {k} folds, each with training and validation data beside it: "
                        f"at least {max(4, k)} are needed; give fewer folds, more data or another group rule")  # fmt: skip
    codes = {c: i for i, c in enumerate(classes)} if stratify else {}
    counts = np.zeros((len(order), len(codes) + 1))
    np.add.at(counts, (member, np.array([codes.get(x, len(codes)) if x is not None else len(codes) for x in labels])), 1)
    sizes = counts.sum(1)
    # A class weighs by its share of itself, so a rare one is spread as carefully as a common one.
    weights = np.concatenate([counts / np.maximum(counts.sum(0), 1), (sizes / sizes.sum())[:, None]], 1)
    ranks = {g: unit_hash(g, f"fold:{seed}") for g in order}
    held = np.zeros((k, weights.shape[1]))
    filled = np.zeros(k, np.int64)
    fold_of = np.zeros(len(order), np.int64)
    queue = sorted(order, key=lambda g: (-sizes[number[g]], ranks[g], g))
    for left, g in zip(range(len(queue), 0, -1), queue):
        w = weights[number[g]]
        cost = ((held + w) ** 2 - held**2).sum(1)
        # Every fold must get a group; of two folds each must get two, one to train on and one to validate.
        missing = np.maximum((2 if k == 2 else 1) - filled, 0)
        if missing.sum() >= left:
            cost[missing == 0] = np.inf
        best = int(np.flatnonzero(cost <= cost.min() * (1 + 1e-9))[0])
        held[best] += w
        filled[best] += 1
        fold_of[number[g]] = best
    inner = _inner(order, sizes, fold_of, k, dataset)
    return (fold_of[member] + 1).astype(np.int16), inner[member]


def _inner(order: list[str], sizes: np.ndarray, fold_of: np.ndarray, k: int, dataset: Dataset) -> np.ndarray:
    """Groups for validation: by hash, from the folds in turn, until their share is reached and every fold has some
    outside it; never so many that no training group would remain."""
    queues = [
        sorted(np.flatnonzero(fold_of == f).tolist(), key=lambda i: (unit_hash(order[i], f"inner:{dataset.seed}"), order[i]))
        for f in range(k)
    ]
    inner = np.zeros(len(order), bool)
    aim = dataset.validation * sizes.sum()
    rest = np.bincount(fold_of, minlength=k)  # groups of each fold that are not chosen
    chosen, held = np.zeros(k, np.int64), 0.0  # chosen groups of each fold; samples in them

    def enough() -> bool:
        count = int(chosen.sum())
        return bool((count - chosen > 0).all()) and held + held / count / 2 >= aim

    def room(fold: int) -> bool:
        left = rest - (np.arange(k) == fold)
        return bool((left.sum() - left > 0).all())

    candidates = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    for i in candidates:
        if chosen.any() and enough():
            break
        fold = fold_of[i]
        if room(fold):
            inner[i] = True
            rest[fold] -= 1
            chosen[fold] += 1
            held += sizes[i]
    return inner
