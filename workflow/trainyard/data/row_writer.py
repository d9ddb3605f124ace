"""Second look at JSONL files: rows dealt to files, each file hashed while it is written, by threads that need no interpreter."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from trainyard.data.errors import DataError
from trainyard.data.forked import beside, can_fork
from trainyard.data.prefetch import prefetch
from trainyard.data.row_scan import FORK, RowBlock

THREADS = 2  # writing and hashing run without the interpreter's lock; the slicing beside them holds it
FLUSH = 32 << 20  # bytes of a part after which the disk is set to work, so that little is left for the end


@dataclass(frozen=True)
class Written:
    """One file that was written: rows, size in bytes and xxh3 (128 bits)."""

    path: Path
    rows: int
    size: int
    xxh3: str


@dataclass
class Part:
    """One file while it is written: rows, size in bytes and xxh3 (128 bits) so far."""

    path: Path
    rows: int = 0
    size: int = 0
    digest: Any = field(default_factory=xxhash.xxh3_128)
    file: int = -1
    _last: Future | None = None

    def append(self, pool: ThreadPoolExecutor, disk: ThreadPoolExecutor, rows: int, data: bytes) -> None:
        """Write behind what was appended before; at most one piece a part waits. Raises the error of that one."""
        self.wait()
        if self.size // FLUSH < (self.size + len(data)) // FLUSH:
            disk.submit(os.fsync, self.file)  # only a start: an error comes again from the last one
        self.rows += rows
        self.size += len(data)
        self._last = pool.submit(self._write, data)

    def wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.file, rest) :]
        self.digest.update(data)


def deal_rows(
    paths: Sequence[Path], blocks: Sequence[RowBlock], place: Callable[[np.ndarray], np.ndarray], targets: Sequence[Path]
) -> list[Written]:
    """Write every row of the blocks to the target whose number `place` gives its hash; synced to the disk.

    Rows keep their order and their bytes; the last line of a file gets the newline it lacks. With a second core its process writes
    every other target: each is hashed from its beginning to its end. Raises DataError when a file has become shorter, OSError.
    """
    numbers = range(len(targets))
    if sum(int(block.sizes.sum(dtype=np.int64)) for block in blocks) < FORK or len(targets) < 2 or not can_fork():
        return _deal_some(paths, blocks, place, targets, numbers)
    with beside(lambda: _deal_some(paths, blocks, place, targets, numbers[1::2])) as others:
        parts = dict(zip(numbers[::2], _deal_some(paths, blocks, place, targets, numbers[::2])))
        parts |= dict(zip(numbers[1::2], others()))
    return [parts[number] for number in numbers]


def _deal_some(
    paths: Sequence[Path], blocks: Sequence[RowBlock], place: Callable[[np.ndarray], np.ndarray], targets: Sequence[Path], mine: range
) -> list[Written]:
    parts = {number: Part(targets[number]) for number in mine}
    with ExitStack() as stack:
        for part in parts.values():
            part.file = os.open(part.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            stack.callback(os.close, part.file)
        # Left before the files are closed.
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        disk = stack.enter_context(ThreadPoolExecutor(1))
        for block, view in prefetch(_read_blocks(paths, blocks)):
            _deal(block, view, place(block.hashes), parts, pool, disk)
        for part in parts.values():
            part.wait()
        list(disk.map(os.fsync, [part.file for part in parts.values()]))
    return [Written(part.path, part.rows, part.size, part.digest.hexdigest()) for part in parts.values()]


def _read_blocks(paths: Sequence[Path], blocks: Iterable[RowBlock]) -> Iterator[tuple[RowBlock, memoryview]]:
    """The blocks and their bytes, which hold until the next but one is asked for."""
    buffers = [bytearray(), bytearray()]
    for number, group in groupby(blocks, key=lambda block: block.file):
        with open(paths[number], "rb", buffering=0) as file:
            for block in group:
                buffers.reverse()
                size = int(block.sizes.sum(dtype=np.int64))
                if len(buffers[0]) < size:
                    buffers[0] = bytearray(size)
                view = memoryview(buffers[0])[:size]
                _read(file.fileno(), block, view, paths[number])
                yield block, view


def _read(file: int, block: RowBlock, view: memoryview, path: Path) -> None:
    stop = len(view) - block.open_end
    got = 0
    while got < stop:
        count = os.preadv(file, [view[got:stop]], block.offset + got)
        if not count:
            raise DataError(f"{path}: became shorter while it was divided; run again when it is at rest")
        got += count
    if block.open_end:
        view[-1:] = b"\n"


def _deal(
    block: RowBlock, view: memoryview, numbers: np.ndarray, parts: Mapping[int, Part], pool: ThreadPoolExecutor, disk: ThreadPoolExecutor
) -> None:
    """Append each row of a block to its part, where that is one of `parts`."""
    ends = np.cumsum(block.sizes, dtype=np.int64)
    begin = ends - block.sizes
    begin[0] = block.skip
    begin, ends = begin.compress(block.good), ends.compress(block.good)
    for number, part in parts.items():
        rows = np.flatnonzero(numbers == number)
        if len(rows):
            spans = map(slice, begin.take(rows).tolist(), ends.take(rows).tolist())
            part.append(pool, disk, len(rows), b"".join(map(view.__getitem__, spans)))
