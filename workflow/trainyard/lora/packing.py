"""Packing: many short rows in few sequences of full length, none of them split.

Best-fit decreasing (D. S. Johnson, Near-optimal bin packing algorithms, 1973): the longest row first, each into the
fullest bin that still has room for it. Rows of one length are placed together, so the work grows with the number of
different lengths and not with the number of rows. numpy alone.
"""

import numpy as np


def pack_rows(rows: np.ndarray, lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Rows (n,) in bins: (bins, most rows in one), filled up with -1. `lengths` (n,) are the tokens of each row."""
    return bins_of(best_fit_decreasing(lengths, capacity), rows)


def best_fit_decreasing(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The bin of each row, (n,) int64. Raises ValueError for a row that is empty or longer than a bin."""
    lengths = np.asarray(lengths, np.int64)
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= capacity:
        raise ValueError(f"rows of {lengths.min()} to {lengths.max()} tokens do not go into bins of {capacity}")
    order = np.argsort(-lengths, kind="stable")
    sizes, counts = np.unique(lengths, return_counts=True)
    places = []
    opened, room = 0, _Room()
    for size, left in zip(sizes[::-1].tolist(), counts[::-1].tolist()):
        while left:
            free = room.least(size)
            # The fullest bin that takes one row of this size is also the fullest that takes the next one, until it is full.
            each = (free or capacity) // size
            wanted = -(-left // each)
            if free is None:
                free, bins = capacity, np.arange(opened, opened + wanted)
                opened += wanted
            else:
                bins = room.take(free, wanted)
            placed = min(left, len(bins) * each)
            places.append(np.repeat(bins, each)[:placed])
            whole = placed // each
            room.give(free - each * size, bins[:whole])
            room.give(free - (placed - whole * each) * size, bins[whole:])
            left -= placed
    found = np.empty(len(lengths), np.int64)
    found[order] = np.concatenate(places) if places else []
    return found


class _Room:
    """Bins by the tokens that still fit into each. A bit of `_levels` says which amounts there are bins of."""

    def __init__(self) -> None:
        self._levels, self._bins = 0, dict[int, np.ndarray]()

    def least(self, size: int) -> int | None:
        """The smallest amount of room, of those that some bin has, that is not below `size`."""
        above = self._levels >> size
        return size + (above & -above).bit_length() - 1 if above else None

    def take(self, free: int, count: int) -> np.ndarray:
        bins = self._bins[free]
        self._bins[free] = bins[count:]
        if len(bins) <= count:
            self._levels ^= 1 << free
        return bins[:count]

    def give(self, free: int, bins: np.ndarray) -> None:
        if free and len(bins):
            there = self._bins.get(free)
            self._bins[free] = np.concatenate([bins, there]) if there is not None and len(there) else bins
            self._levels |= 1 << free


def bins_of(places: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows of each bin, from the bin of each row: (bins, most rows in one) int64, filled up with -1."""
    counts = np.bincount(places)
    order = np.argsort(places, kind="stable")
    column = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    bins = np.full((len(counts), counts.max(initial=0)), -1, np.int64)
    bins[places[order], column] = np.asarray(rows, np.int64)[order]
    return bins
