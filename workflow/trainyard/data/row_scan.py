"""First look at JSONL files: the length and hash of every row, in blocks, so that a second look need not search or hash again."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import xxhash

from trainyard.data.forked import beside, can_fork
from trainyard.data.lines import line_blocks
from trainyard.data.prefetch import prefetch

FORK = 16 << 20  # bytes that are worth a second process
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


@dataclass(frozen=True)
class Span:
    """Whole lines of one file: from where, and up to where (None: its end)."""

    file: int
    start: int = 0
    stop: int | None = None


Broken = list[tuple[int, int]]


def scan_files(paths: Sequence[Path], seed: int) -> tuple[list[RowBlock], Broken]:
    """The blocks of all files, and the lines that are no rows: file and line number (from 1).

    A line that is neither blank nor begins with { and ends with } is no row. With a second core its process takes half of the bytes.
    """
    sizes = [path.stat().st_size for path in paths]
    if sum(sizes) < FORK or not can_fork():
        broken: Broken = []
        return list(scan_spans(paths, map(Span, range(len(paths))), seed, broken)), broken
    cut, at = _middle(paths, sizes)
    first, second = [*map(Span, range(cut)), Span(cut, 0, at)], [Span(cut, at), *map(Span, range(cut + 1, len(paths)))]

    def scan(spans: list[Span]) -> tuple[list[RowBlock], Broken]:
        broken: Broken = []
        return list(scan_spans(paths, spans, seed, broken)), broken

    with beside(lambda: scan(second)) as others:
        blocks, broken = scan(first)
        more, more_broken = others()
    lines = sum(len(block.sizes) for block in blocks if block.file == cut)
    return blocks + more, broken + [(file, line + (lines if file == cut else 0)) for file, line in more_broken]


def _middle(paths: Sequence[Path], sizes: Sequence[int]) -> tuple[int, int]:
    """The file in which half of all bytes are passed, and where its next line begins."""
    half = sum(sizes) // 2
    cut = 0
    while half > sizes[cut]:
        half -= sizes[cut]
        cut += 1
    with open(paths[cut], "rb") as file:
        file.seek(half)
        file.readline()
        return cut, file.tell()


def scan_spans(paths: Sequence[Path], spans: Iterable[Span], seed: int, refused: Broken) -> Iterator[RowBlock]:
    """The blocks of some spans; lines that are no rows go to `refused`, counted from the beginning of their span."""
    digest = xxhash.xxh3_64_intdigest
    for span in spans:
        number, path = span.file, paths[span.file]
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            length = os.fstat(file).st_size
            line = 0
            for offset, view, ends in prefetch(line_blocks(file, BLOCK, start=span.start, stop=span.stop)):
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
                rows = map(view.__getitem__, map(slice, begin[good].tolist(), stop[good].tolist()))
                hashes = np.fromiter(map(digest, rows, repeat(seed)), np.uint64, int(good.sum()))
                sizes = np.diff(ends, prepend=0)
                small = np.uint32 if len(view) < 2**32 else np.int64
                yield RowBlock(number, offset, sizes.astype(small), good, hashes, skip, offset + len(view) > length)
                line += len(ends)
        finally:
            os.close(file)
