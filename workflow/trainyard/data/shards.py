"""Shards of exact sizes: where they begin among ranked samples, and which hashes lie at their borders."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

_BITS = 16  # of a hash, for the first look at where the borders lie


def shard_edges(n: int, shards: int) -> list[int]:
    """Where shards begin among n ranked samples: shard i gets ⌈(i+1)n/k⌉ − ⌈in/k⌉, so 500,000 in six are
    83,334, 83,333, 83,333 and the same again."""
    return [-(-i * n // shards) for i in range(shards + 1)]


def select_ranks(parts: Sequence[np.ndarray], ranks: Iterable[int]) -> list[tuple[int, int]]:
    """For each rank (from 0, below the number of hashes) the hash that has it when all are sorted, and how many equal ones come before.

    `parts` are arrays of uint64, (n,) each. They are not sorted or copied: their first bits are counted, and only hashes that
    share them with a border are looked at, so memory does not grow with the number of hashes.
    """
    counts = np.zeros(1 << _BITS, np.int64)
    for part in parts:
        counts += np.bincount(part >> np.uint64(64 - _BITS), minlength=1 << _BITS)
    ends = np.cumsum(counts)
    bins = {rank: int(np.searchsorted(ends, rank, "right")) for rank in ranks}
    wanted = np.zeros(1 << _BITS, bool)
    wanted[list(bins.values())] = True
    near: dict[int, Counter[int]] = {b: Counter() for b in bins.values()}
    for part in parts:
        values, times = np.unique(part[wanted[part >> np.uint64(64 - _BITS)]], return_counts=True)
        for value, count in zip(values.tolist(), times.tolist()):
            near[value >> (64 - _BITS)][value] += count
    return [_at(near[b], rank - int(ends[b] - counts[b])) for rank, b in bins.items()]


def _at(counts: Counter[int], rank: int) -> tuple[int, int]:
    for value in sorted(counts):
        if rank < counts[value]:
            return value, rank
        rank -= counts[value]
    raise IndexError("rank beyond the number of hashes")


class HashBorders:
    """Which part a hash belongs to: ranked hashes cut where `cuts` say, (hash, number of equal hashes before the cut).

    Equal hashes at a cut are dealt in the order they are asked for, so that sizes are exact; it is the only state.
    """

    def __init__(self, cuts: Sequence[tuple[int, int]]):
        self._cuts = np.array([value for value, _ in cuts], np.uint64)
        # How many hashes equal to a cut still belong before it; of several cuts at one hash each has its own number.
        self._before = [count for _, count in cuts]
        self._seen: Counter[int] = Counter()

    def place(self, hashes: np.ndarray) -> np.ndarray:
        """The number of the part of each hash (n,), from 0."""
        if not len(self._cuts):
            return np.zeros(len(hashes), np.int64)
        out = np.searchsorted(self._cuts, hashes, "right")
        for i in np.flatnonzero(self._cuts[np.maximum(out - 1, 0)] == hashes).tolist():
            value = int(hashes[i])
            first, last = np.searchsorted(self._cuts, hashes[i], "left"), out[i]
            # Cut c begins with the equal hash number `before[c]`.
            out[i] = first + sum(self._before[c] <= self._seen[value] for c in range(first, last))
            self._seen[value] += 1
        return out
