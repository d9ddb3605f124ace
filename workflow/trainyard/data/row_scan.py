"""JSONL files in pieces of whole lines, and the first look at a piece: length and hash of every row."""

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import xxhash

from trainyard.data.share import MOST_PIECES

PIECE = 8 << 20  # bytes, at the least, that a process takes at once
READ = 256 << 10  # bytes read at once, and bytes of lines hashed at once: they stay in a core's own cache
MARK = b"\xef\xbb\xbf"


class Span(NamedTuple):
    """Bytes of one file, from the beginning of a line to the end of one."""

    file: int
    start: int
    stop: int


class Scan(NamedTuple):
    """What a piece holds. `hashes` (rows,) uint64 of the rows without line ends; `sizes` (rows,) bytes with line ends; `lines` (spans,)
    how many; `skipped`: lines that are no rows, counted from 0 through the piece; `refused`: those of them that are not blank."""

    hashes: array
    sizes: array
    lines: array
    skipped: array
    refused: array


def cut_pieces(paths: Sequence[Path], sizes: Sequence[int]) -> list[list[Span]]:
    """All bytes of the files in order, in at most `MOST_PIECES` pieces of about one size."""
    most = max(PIECE, -(-sum(sizes) // (MOST_PIECES - 1)))
    pieces: list[list[Span]] = []
    room = 0
    for number, (path, size) in enumerate(zip(paths, sizes)):
        start = 0
        while start < size:
            if room <= 0:
                pieces.append([])
                room = most
            stop = size if size - start <= room else _next_line(path, start + room, size)
            pieces[-1].append(Span(number, start, stop))
            room -= stop - start
            start = stop
    return pieces


def _next_line(path: Path, at: int, size: int) -> int:
    """Where the first line begins at or behind `at` > 0."""
    with open(path, "rb", buffering=0) as file:
        at -= 1
        while at < size and (data := os.pread(file.fileno(), 1 << 16, at)):
            if (found := data.find(b"\n")) >= 0:
                return at + found + 1
            at += len(data)
    return size


def line_blocks(path: Path, span: Span, block: int) -> Iterator[list[bytes]]:
    """The lines of a span, about `block` bytes at a time, each with its line end; without a byte order mark; a file's last line gets
    the newline it lacks. Memory: two blocks, or twice the longest line. What is missing of a file that became shorter is not given.
    """
    left, begins = span.stop - span.start, span.start == 0
    with open(path, "rb", buffering=max(4096, min(READ, left))) as file:
        file.seek(span.start)
        while left > 0:
            # The lines whose sizes first reach the hint plus one; a hint of 0 would be all of the file.
            lines = file.readlines(min(block, left - 1)) if left > 1 else [file.readline()]
            if not lines or not lines[-1]:
                return
            left = span.stop - file.tell()
            if begins and lines[0].startswith(MARK):
                lines[0] = lines[0][len(MARK) :]
            begins = False
            if not lines[-1].endswith(b"\n"):
                lines[-1] += b"\n"
            yield lines


def scan_piece(paths: Sequence[Path], spans: Sequence[Span], seed: int) -> Scan:
    """Hash every row of a piece. A line that is neither blank nor begins with { and ends with } is no row and refused."""
    digest = xxhash.xxh3_64_intdigest
    small = all(span.stop - span.start < 2**32 for span in spans)
    scan = Scan(array("Q"), array("I" if small else "Q"), array("Q"), array("Q"), array("Q"))
    before = 0
    for span in spans:
        count = 0
        for lines in line_blocks(paths[span.file], span, READ):
            rows = _plain_rows(lines)
            first, count = count, count + len(lines)
            if rows is None:
                pairs = [(line, _row(line)) for line in lines]
                for number, (line, row) in enumerate(pairs):
                    if not row:
                        scan.skipped.append(before + first + number)
                        if line.strip():
                            scan.refused.append(before + first + number)
                lines = [line for line, row in pairs if row]
                rows = (row for _, row in pairs if row)
            scan.hashes.extend(map(digest, rows, repeat(seed)))
            scan.sizes.extend(map(len, lines))
        scan.lines.append(count)
        before += count
    return scan


def refused_lines(pieces: Sequence[Sequence[Span]], scans: Sequence[Scan]) -> list[tuple[int, int]]:
    """Lines that are neither rows nor blank: (file, number of the line in it from 1)."""
    out = []
    file, before = -1, 0
    for spans, scan in zip(pieces, scans):
        start = 0
        for span, lines in zip(spans, scan.lines):
            if span.file != file:
                file, before = span.file, 0
            first = bisect_left(scan.refused, start)
            out += [(file, before + line - start + 1) for line in scan.refused[first : bisect_left(scan.refused, start + lines)]]
            start += lines
            before += lines
    return out


_FIRST, _LAST, _LAST_BUT_ONE = itemgetter(0), itemgetter(-2), itemgetter(-3)
_WITHOUT_NEWLINE, _WITHOUT_BOTH = itemgetter(slice(None, -1)), itemgetter(slice(None, -2))


def _plain_rows(lines: list[bytes]) -> Iterator[bytes] | None:
    """The lines without their ends, where all of them are rows and end alike; no line of a program is run for each."""
    try:
        if set(map(_FIRST, lines)) != {ord("{")}:
            return None
        last = set(map(_LAST, lines))
        if last == {ord("}")}:
            return map(_WITHOUT_NEWLINE, lines)
        if last == {ord("\r")} and set(map(_LAST_BUT_ONE, lines)) == {ord("}")}:
            return map(_WITHOUT_BOTH, lines)
    except IndexError:  # a line that is too short for a row
        pass
    return None


def _row(line: bytes) -> bytes:
    """The row that a line holds, without its end; nothing where it holds none. Spaces around a row belong to it."""
    text = line.strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return b""
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]
