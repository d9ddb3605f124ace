"""Second look at JSONL files: rows dealt to files, each process writing its pieces where they belong."""

import os
import threading
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from trainyard.data.errors import DataError
from trainyard.data.row_scan import READ, Scan, Span, line_blocks
from trainyard.data.share import share

BLOCK = 2 << 20  # bytes of lines dealt at once: small writes cost the system more
FLUSH = 32 << 20  # bytes written by one process after which the disk is set to work, so that little is left for the end


class Part(NamedTuple):
    """One file that was written: rows, size in bytes and xxh3 (128 bits, in hexadecimal)."""

    path: Path
    rows: int
    size: int
    digest: str


class Deal(NamedTuple):
    """Where the lines of a piece go: `numbers` (lines,) of the targets, their count for a line that is no row; `starts` and `stops`
    (targets,) int64: which bytes of each target the piece fills."""

    spans: list[Span]
    lines: array
    numbers: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def deal_rows(
    paths: Sequence[Path],
    pieces: Sequence[list[Span]],
    scans: list[Scan],
    place: Callable[[np.ndarray], np.ndarray],
    targets: Sequence[Path],
    workers: int,
) -> list[Part]:
    """Write every row to the target whose number `place` gives its hash; synced to the disk. Empties `scans`, whose memory is needed.

    Rows keep their order and their bytes; the last line of a file gets the newline it lacks. Raises DataError when a file
    has become another, OSError.
    """
    deals, rows = _plan(pieces, scans, place, len(targets))
    sizes = deals[-1].stops.tolist() if deals else [0] * len(targets)
    with ExitStack() as stack:
        files = []
        for target in targets:
            files.append(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            stack.callback(os.close, files[-1])
        disk = stack.enter_context(_Disk(files))

        def deal(piece: int) -> tuple[()]:
            _write_piece(paths, deals[piece], files)
            disk.wrote(int((deals[piece].stops - deals[piece].starts).sum()))
            return ()

        share(deal, len(deals), workers, disk.start)
        disk.finish()
        with ThreadPoolExecutor(workers) as pool:
            digests = list(pool.map(_digest, files, sizes))
        disk.wait()
    return [Part(*part) for part in zip(targets, rows, sizes, digests)]


def _plan(
    pieces: Sequence[list[Span]], scans: list[Scan], place: Callable[[np.ndarray], np.ndarray], targets: int
) -> tuple[list[Deal], list[int]]:
    """What each piece writes where, and the rows of each target."""
    deals: list[Deal] = []
    rows, end = np.zeros(targets, np.int64), np.zeros(targets, np.int64)
    scans.reverse()
    for spans in pieces:
        scan = scans.pop()
        small = place(np.frombuffer(scan.hashes, np.uint64)).astype(np.uint8 if targets < 256 else np.uint16)
        rows += np.bincount(small, minlength=targets)
        start = end
        end = start + np.bincount(small, np.frombuffer(scan.sizes, scan.sizes.typecode), targets).astype(np.int64)
        if scan.skipped:
            numbers = np.full(sum(scan.lines), targets, small.dtype)
            kept = np.ones(len(numbers), bool)
            kept[np.frombuffer(scan.skipped, np.uint64)] = False
            numbers[kept] = small
            small = numbers
        deals.append(Deal(spans, scan.lines, small, start, end))
    return deals, rows.tolist()


def _write_piece(paths: Sequence[Path], deal: Deal, files: Sequence[int]) -> None:
    at, line = deal.starts.tolist(), 0
    for span, count in zip(deal.spans, deal.lines):
        stop = line + count
        for lines in line_blocks(paths[span.file], span, BLOCK):
            numbers = deal.numbers[line : min(line + len(lines), stop)]
            line += len(lines)
            if line > stop:
                break
            order = np.argsort(numbers, kind="stable")
            sorted_lines = list(map(lines.__getitem__, order.tolist()))
            edges = np.searchsorted(numbers[order], np.arange(len(files) + 1)).tolist()
            for number, (first, last) in enumerate(pairwise(edges)):
                if first < last:
                    data = b"".join(sorted_lines[first:last])
                    if at[number] + len(data) > deal.stops[number]:
                        raise _changed(paths[span.file])
                    _write(files[number], data, at[number])
                    at[number] += len(data)
        if line < stop:
            raise DataError(f"{paths[span.file]}: became shorter while it was divided; run again when it is at rest")
        if line > stop:
            raise _changed(paths[span.file])
    if at != deal.stops.tolist():
        raise _changed(paths[deal.spans[0].file])


def _changed(path: Path) -> DataError:
    return DataError(f"{path}: changed while it was divided; run again when it is at rest")


def _write(file: int, data: bytes, at: int) -> None:
    written = os.pwrite(file, data, at)
    while written < len(data):
        written += os.pwrite(file, memoryview(data)[written:], at + written)


def _digest(file: int, size: int) -> str:
    """xxh3 (128 bits) of what was written, read back: several processes wrote pieces of the file, in any order."""
    digest, buffer = xxhash.xxh3_128(), memoryview(bytearray(READ))
    at = 0
    while at < size:
        count = os.preadv(file, [buffer[: size - at]], at)
        if not count:
            raise OSError(f"{size - at} bytes that were written cannot be read back")
        digest.update(buffer[:count])
        at += count
    return digest.hexdigest()


class _Disk:
    """A thread that syncs files while others write them, so that little is left for the end."""

    def __init__(self, files: Sequence[int]):
        self._files = files
        self._more = threading.Event()
        self._waiting = 0
        self._last = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._sync)

    def __enter__(self) -> "_Disk":
        return self

    def __exit__(self, *_: object) -> None:
        self._files = []
        self.finish()
        if self._thread.is_alive():
            self._thread.join()

    def start(self) -> None:
        self._thread.start()

    def wrote(self, size: int) -> None:
        """So many bytes more. Raises OSError when those before did not get to the disk."""
        if self._error:
            raise self._error
        self._waiting += size
        if self._waiting >= FLUSH:
            self._waiting = 0
            self._more.set()

    def finish(self) -> None:
        """All was written."""
        self._last = True
        self._more.set()

    def wait(self) -> None:
        """Until all is on the disk. Raises OSError: a file tells each error once, so the first is kept."""
        self._thread.join()
        if self._error:
            raise self._error

    def _sync(self) -> None:
        last = False
        while not last:
            self._more.wait()
            self._more.clear()
            last = self._last
            try:
                for file in self._files:
                    os.fsync(file)
            except OSError as error:
                self._error = error
                return
