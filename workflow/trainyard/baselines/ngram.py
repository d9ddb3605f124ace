"""N-grams by counting: interpolated with Witten-Bell smoothing, over any columns as context.

Witten and Bell 1991, https://doi.org/10.1109/18.87000; as recursion in Chen and Goodman 1998,
https://dash.harvard.edu/handle/1/25104739
"""

from collections.abc import Sequence

import numpy as np


class NGram:
    """P(target | context) of several orders, each smoothed towards the order before it, the first towards uniform.

    `orders` are lists of column names, from the shortest context (usually none) to the longest.
    """

    def __init__(self, orders: Sequence[tuple[str, ...]], size: int):
        self.orders, self.size = orders, size
        self._tables: list[tuple[np.ndarray, ...]] = []

    def fit(self, columns: dict[str, np.ndarray], target: np.ndarray) -> "NGram":
        """Count. Columns and target (n,) of small integers; contexts are combined into one code each."""
        self._span = {name: (int(v.min(initial=0)), int(v.max(initial=0)) + 2) for name, v in columns.items()}
        self._tables = []
        for order in self.orders:
            context = self._code(columns, order, len(target))
            pairs, counts = np.unique(context * self.size + target, return_counts=True)
            contexts, first = np.unique(pairs // self.size, return_index=True)
            ends = np.append(first[1:], len(pairs))
            total = np.add.reduceat(counts, first) if len(pairs) else counts
            self._tables.append((contexts, first, ends, total, pairs % self.size, counts))
        return self

    def probabilities(self, columns: dict[str, np.ndarray], n: int) -> np.ndarray:
        """(n, size), each row summing to 1. `columns` (n,) as in fit; values never seen fall back to shorter contexts."""
        p = np.full((n, self.size), 1 / self.size)
        for order, (contexts, first, ends, total, targets, counts) in zip(self.orders, self._tables):
            if not len(contexts):
                continue
            code = self._code(columns, order, n)
            at = np.minimum(np.searchsorted(contexts, code), len(contexts) - 1)
            rows = np.flatnonzero(contexts[at] == code)
            at = at[rows]
            kinds = ends[at] - first[at]
            scale = total[at] + kinds
            p[rows] *= (kinds / scale)[:, None]
            # Every (row, seen target) pair of this order, end to end.
            which = np.repeat(np.arange(len(rows)), kinds)
            pair = np.arange(len(which)) - np.repeat(np.cumsum(kinds) - kinds, kinds) + np.repeat(first[at], kinds)
            p[rows[which], targets[pair]] += counts[pair] / scale[which]
        return p

    def _code(self, columns: dict[str, np.ndarray], order: tuple[str, ...], n: int) -> np.ndarray:
        code = np.zeros(n, np.int64)
        for name in order:
            low, high = self._span[name]
            # What lies outside the training range gets the code above it, which no training context has.
            value = np.where((columns[name] < low) | (columns[name] >= high), high - 1, columns[name])
            code = code * (high - low) + value - low
        return code


def token_scores(
    probabilities: np.ndarray, target: np.ndarray, window: np.ndarray, windows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nats, hits and tokens of each window: what PartOutput.tokens takes. `window` (n,) says to which a token belongs."""
    nll = -np.log(np.maximum(probabilities[np.arange(len(target)), target], 1e-12))
    hit = probabilities.argmax(1) == target
    total = lambda x: np.bincount(window, weights=x, minlength=windows)  # noqa: E731
    return total(nll), total(hit), total(np.ones(len(target)))
