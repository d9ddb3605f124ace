"""Predictions on held-out samples: what training and baselines write, and evaluation, ensembles and tests read.

A row an item (a sample, or a window of one) and part (one of the things a model predicts):

| column | |
|---|---|
| item, id, group, split | the item; the sample it belongs to; its group; validation or test |
| part, kind | name of what is predicted; `class`, `values`, `tokens` or `share` |
| target, prediction | class: [index] and probabilities; values: numbers, one for one; else empty |
| nll, correct, count | tokens: summed negative log-likelihood (nats), hits and tokens; share: hits of count |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("class", "values", "tokens", "share")
NUMBERS: dict[str, Any] = {"nll": np.float64, "correct": np.int64, "count": np.int64}


@dataclass(frozen=True)
class PartOutput:
    """What was predicted of one part for n items. Use the constructors below."""

    kind: str
    target: Sequence[np.ndarray]
    prediction: Sequence[np.ndarray]
    nll: np.ndarray
    correct: np.ndarray
    count: np.ndarray

    @classmethod
    def classes(cls, target: np.ndarray, probabilities: np.ndarray) -> "PartOutput":
        """target (n,) class indices; probabilities (n, classes)."""
        target = np.asarray(target, np.int64)
        p = np.asarray(probabilities, np.float64)
        nll = -np.log(np.maximum(p[np.arange(len(target)), target], 1e-12))
        hit = (p.argmax(1) == target).astype(np.int64)
        return cls(
            "class", [np.array([t], np.float32) for t in target], list(p.astype(np.float32)), nll, hit, np.ones(len(target), np.int64)
        )

    @classmethod
    def values(cls, target: Sequence[np.ndarray], prediction: Sequence[np.ndarray]) -> "PartOutput":
        """target and prediction: n arrays each, of equal length pair by pair, in the unit they are reported in."""
        n = len(target)
        count = np.array([np.size(t) for t in target], np.int64)
        flat = lambda rows: [np.asarray(r, np.float32).reshape(-1) for r in rows]  # noqa: E731
        return cls("values", flat(target), flat(prediction), np.zeros(n), np.zeros(n, np.int64), count)

    @classmethod
    def tokens(cls, nll: np.ndarray, correct: np.ndarray, count: np.ndarray) -> "PartOutput":
        """Per item: summed nats, tokens predicted right, tokens scored; each (n,)."""
        return cls._counted("tokens", nll, correct, count)

    @classmethod
    def share(cls, correct: np.ndarray) -> "PartOutput":
        """Per item: whether it passed, (n,) of 0 and 1."""
        correct = np.asarray(correct, np.int64)
        return cls._counted("share", np.zeros(len(correct)), correct, np.ones(len(correct), np.int64))

    @classmethod
    def _counted(cls, kind, nll, correct, count):
        empty = [np.zeros(0, np.float32)] * len(np.asarray(nll))
        return cls(kind, empty, empty, np.asarray(nll, np.float64), np.asarray(correct, np.int64), np.asarray(count, np.int64))


def item_ids(pack, items: np.ndarray) -> list[str]:
    """Names of items (m, k): the sample's id, and for windows `#start` behind it."""
    items = np.asarray(items)
    ids = pack.texts("id", items[:, 0])
    if items.shape[1] == 1:
        return ids
    return [f"{i}#{'.'.join(str(int(x)) for x in rest)}" for i, rest in zip(ids, items[:, 1:])]


class PredictionTable:
    """Collects predictions batch by batch and writes them as parquet, atomically."""

    def __init__(self) -> None:
        self._columns: dict[str, list] = {}

    def add(self, pack, items: np.ndarray, split: str, parts: dict[str, PartOutput], **more: str) -> None:
        """Add a batch: `items` (m, k) as the model or baseline got them; `more` are constant columns."""
        items = np.asarray(items)
        names, ids, groups = item_ids(pack, items), pack.texts("id", items[:, 0]), pack.texts("group", items[:, 0])
        for part, out in parts.items():
            n = len(items)
            if len(out.count) != n:
                raise ValueError(f"part {part}: {len(out.count)} predictions for {n} items")
            row = {
                "item": names, "id": ids, "group": groups, "split": [split] * n, "part": [part] * n, "kind": [out.kind] * n,
                "target": list(out.target), "prediction": list(out.prediction),
                "nll": out.nll.tolist(), "correct": out.correct.tolist(), "count": out.count.tolist(),
                **{key: [value] * n for key, value in more.items()},
            }  # fmt: skip
            for key, value in row.items():
                self._columns.setdefault(key, []).extend(value)

    def write(self, path: str | Path) -> None:
        import pyarrow.parquet as pq

        from trainyard.data.arrow import list_column, make_table, number_column, text_column
        from trainyard.data.files import replacing

        kinds = {"target": list_column, "prediction": list_column} | {k: partial(number_column, dtype=t) for k, t in NUMBERS.items()}
        with replacing(path) as temporary:
            pq.write_table(make_table({k: kinds.get(k, text_column)(v) for k, v in self._columns.items()}), temporary, compression="zstd")
