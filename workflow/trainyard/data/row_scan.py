"""First look at JSONL files: the length and hash of every row, in blocks, so that a second look need not search or hash again."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import xxhash

from trainyard.data.lines import line_blocks
from trainyard.data.prefetch import prefetch

BLOCK = 4 << 20  # bytes read at once: shared caches hold it, and there are few enough blocks for the work a block costs


@dataclass(frozen=True)
class RowBlock:
    """Consecutive lines of one file: 13 bytes a line.

    `sizes` (n,) bytes of each line with its line end, from `offset`; `good` (n,) which lines are rows; `hashes` (rows,)
    uint64 of the rows without line ends; `skip`: bytes before the first row, which a byte order mark takes; `open_end`: the
    file's last line has no newline, `sizes` counts one.
    """

    file: int
    offset: int
    sizes: np.ndarray
    good: np.ndarray
    hashes: np.ndarray
    skip: int
    open_end: bool


def scan_blocks(paths: Sequence[Path], seed: int, refused: list[tuple[int, int]]) -> Iterator[RowBlock]:
    """The blocks of all files. A line that is neither blank nor begins with { and ends with } is no row: its file and line
    number (from 1) go to `refused`."""
    digest = xxhash.xxh3_64_intdigest
    for number, path in enumerate(paths):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            length = os.fstat(file).st_size
            line = 0
            for offset, view, ends in prefetch(line_blocks(file, BLOCK)):
                data = np.frombuffer(view, np.uint8)
                begin = np.concatenate(([0], ends[:-1]))
                skip = 3 if offset == 0 and view[:3] == b"\xef\xbb\xbf" else 0
                begin[0] = skip
                stop = ends - 1
                stop -= (stop > begin) & (data[np.maximum(stop - 1, 0)] == 13)  # CRLF: the carriage return is no part of the row
                good = (data[begin] == ord("{")) & (data[np.maximum(stop - 1, 0)] == ord("}"))
                for i in np.flatnonzero(~good).tolist():
                    text = bytes(view[begin[i] : ends[i]]).strip()
                    good[i] = text[:1] == b"{" and text[-1:] == b"}"
                    if text and not good[i]:
                        refused.append((number, line + i + 1))
                spans = map(view.__getitem__, map(slice, begin[good].tolist(), stop[good].tolist()))
                hashes = np.fromiter(map(digest, spans, repeat(seed)), np.uint64, int(good.sum()))
                sizes = np.diff(ends, prepend=0)
                small = np.uint32 if len(view) < 2**32 else np.int64
                yield RowBlock(number, offset, sizes.astype(small), good, hashes, skip, offset + len(view) > length)
                line += len(ends)
        finally:
            os.close(file)
