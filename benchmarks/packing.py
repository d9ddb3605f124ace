#!/usr/bin/env python
"""Packing 83,333 chat samples into sequences of 512 tokens, for median lengths of 120, 220 and 420: bins and time.

The limit is the L2 lower bound of Martello and Toth (Knapsack Problems, 1990, chapter 8.3.2): no packing needs fewer bins. The
peer is TRL's `pack_dataset`, best-fit decreasing too: as it is called by default, in maps of 1,000 rows; in one map of all rows,
which gives its fewest bins; and on tokens of one byte, which leaves of it little but the choice of bins. TRL also writes the
packed tokens; here that is done a batch at a time when training asks for them, so both are timed: the choice of bins alone,
and with every token laid out.
"""

import sys

import numpy as np
from bench import Goal, call, measure, report, verdict
from trainyard.lora.packing import pack_rows

COUNT, CAPACITY, ROUNDS = 83_333, 512, 5
LENGTHS = {120: 0.6, 220: 0.5, 420: 0.4}  # median: spread of the logarithm


def drawn(median: int, spread: float) -> np.ndarray:
    lengths = np.random.default_rng(0).lognormal(np.log(median), spread, COUNT).round().astype(np.int64)
    return np.clip(lengths, 8, CAPACITY)


def least_bins(lengths: np.ndarray, capacity: int) -> int:
    """L2: for a threshold k, items above capacity - k fill a bin each with nothing of k or more beside; those above half a bin
    have one each; what the others need beyond the room left there is a volume."""
    counts, size = np.bincount(lengths, minlength=capacity + 1), np.arange(capacity + 1)
    best = 0
    for k in range(capacity // 2 + 1):
        alone, large = size > capacity - k, (size > capacity // 2) & (size <= capacity - k)
        small = (size >= max(k, 1)) & (size <= capacity // 2)
        room = counts[large].sum() * capacity - (counts * size)[large].sum()
        beyond = max(0, -(-((counts * size)[small].sum() - room) // capacity))
        best = max(best, int(counts[alone].sum() + counts[large].sum() + beyond))
    return best


def lay_out(bins: np.ndarray, lengths: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What TRL's packed dataset holds: all tokens in their new order, where each sequence ends, and the rows' lengths in that order.

    Rows of one length are moved by one call of numpy, as items of that many bytes, so that there is no loop over rows.
    """
    rows = bins[bins >= 0]
    sizes, starts = lengths[rows], (np.cumsum(lengths) - lengths)[rows]
    ends = np.cumsum(sizes)
    packed = np.empty_like(tokens)
    order = np.argsort(sizes.astype(np.int16), kind="stable")
    for alike in np.split(order, np.flatnonzero(np.diff(sizes[order])) + 1):
        size = int(sizes[alike[0]])
        windows(packed, size)[ends[alike] - size] = windows(tokens, size)[starts[alike]]
    return packed, ends[np.cumsum((bins >= 0).sum(1)) - 1], sizes


def windows(values: np.ndarray, size: int) -> np.ndarray:
    """Every run of `size` values as one item of an array, without a copy."""
    return np.ndarray((len(values) - size + 1,), f"V{size * values.itemsize}", values, strides=(values.itemsize,))


def padded(lengths: np.ndarray, batch: int = 16) -> float:
    """The share of tokens that are not padding where batches of shuffled rows are padded to their longest."""
    rows = np.random.default_rng(1).permutation(lengths)[: len(lengths) // batch * batch].reshape(-1, batch)
    return float(rows.sum() / (rows.max(1).sum() * batch))


def peers(lengths: np.ndarray) -> dict:
    """TRL's packings by name, each a function that returns the lengths in each sequence; empty where it is not installed."""
    try:
        import datasets
        import pyarrow as pa
        from trl import pack_dataset
    except ImportError:
        print("trl is not installed and left out; `make benchmarks` installs the peers", file=sys.stderr)
        return {}
    datasets.disable_progress_bars()
    datasets.disable_caching()

    def rows(kind):
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        tokens = pa.ListArray.from_arrays(offsets, pa.array(np.ones(lengths.sum(), kind)))
        return datasets.Dataset(pa.table({"input_ids": tokens}))

    whole, thin = rows(np.int32), rows(np.int8)
    everything = {"batch_size": len(lengths), "writer_batch_size": len(lengths), "keep_in_memory": True}
    return {
        "TRL as it is called": lambda: pack_dataset(whole, CAPACITY, "bfd"),
        "TRL, all rows in one map": lambda: pack_dataset(whole, CAPACITY, "bfd", everything),
        "TRL, one map, one-byte tokens": lambda: pack_dataset(thin, CAPACITY, "bfd", everything),
    }


def check(bins: np.ndarray, lengths: np.ndarray, packed: np.ndarray, ends: np.ndarray, sizes: np.ndarray) -> None:
    """That every row is there once and whole, `packed` holding the place that each token had, and that no sequence is too long."""
    rows = bins[bins >= 0]
    assert np.array_equal(np.sort(rows), np.arange(len(lengths))), "a row is missing or there twice"
    assert np.diff(ends, prepend=0).max() <= CAPACITY, "a bin is too full"
    starts = (np.cumsum(lengths) - lengths)[rows]
    assert np.array_equal(packed, np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(len(packed))), (
        "a token is in a wrong place"
    )


def compare(median: int, spread: float) -> None:
    lengths, rows = drawn(median, spread), np.arange(COUNT)
    tokens, limit = np.ones(lengths.sum(), np.int32), least_bins(lengths, CAPACITY)
    bins = pack_rows(rows, lengths, CAPACITY)
    check(bins, lengths, *lay_out(bins, lengths, np.arange(lengths.sum(), dtype=np.int32)))
    theirs = peers(lengths)
    cases = {
        "bins": call(lambda: pack_rows(rows, lengths, CAPACITY)),
        "bins and tokens": call(lambda: lay_out(pack_rows(rows, lengths, CAPACITY), lengths, tokens)),
        **{name: call(pack) for name, pack in theirs.items()},
    }
    names = list(theirs)
    goals = [Goal("bins", names[2], at_least=8), Goal("bins and tokens", names[1], at_least=8)] if names else []
    report(f"median {median} tokens", measure(cases, ROUNDS), "bins", goals)
    filled = lambda count: f"{count:,} bins, {100 * lengths.sum() / (count * CAPACITY):.2f} % full"  # noqa: E731
    print(f"  padded to the longest of 16: {100 * padded(lengths):.1f} % full; L2 bound {filled(limit)}")
    ratio = len(bins) / limit
    verdict("at most 1.007 × the L2 bound", f"{ratio:.5f}, {filled(len(bins))}", ratio <= 1.007)
    for name in names[:2]:
        packed = theirs[name]()
        assert sum(map(sum, packed["seq_lengths"])) == lengths.sum(), f"{name} lost tokens"
        verdict(f"never more bins than {name}", filled(len(packed)), len(bins) <= len(packed))


def main() -> None:
    for median, spread in LENGTHS.items():
        compare(median, spread)


if __name__ == "__main__":
    main()
