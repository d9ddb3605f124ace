"""Second look at JSONL files: rows dealt to files, each file hashed while it is written, by threads that need no interpreter."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from trainyard.data.errors import DataError
from trainyard.data.prefetch import prefetch
from trainyard.data.row_scan import RowBlock

THREADS = 2  # writing and hashing run without the interpreter's lock; the slicing beside them holds it
FLUSH = 32 << 20  # bytes of a part after which the disk is set to work, so that little is left for the end


@dataclass
class Part:
    """One file that is written: rows, size in bytes and xxh3 (128 bits) so far."""

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
    paths: Sequence[Path], blocks: Iterable[RowBlock], place: Callable[[np.ndarray], np.ndarray], targets: Sequence[Path]
) -> list[Part]:
    """Write every row of the blocks to the target whose number `place` gives its hash; synced to the disk.

    Rows keep their order and their bytes; the last line of a file gets the newline it lacks. Raises DataError when a file
    has become shorter, OSError.
    """
    parts = [Part(path) for path in targets]
    with ExitStack() as stack:
        for part in parts:
            part.file = os.open(part.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            stack.callback(os.close, part.file)
        # Left before the files are closed.
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        disk = stack.enter_context(ThreadPoolExecutor(1))
        for block, view in prefetch(_read_blocks(paths, blocks)):
            _deal(block, view, place(block.hashes), parts, pool, disk)
        for part in parts:
            part.wait()
        list(disk.map(os.fsync, [part.file for part in parts]))
    return parts


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
    block: RowBlock, view: memoryview, numbers: np.ndarray, parts: Sequence[Part], pool: ThreadPoolExecutor, disk: ThreadPoolExecutor
) -> None:
    """Append each row of a block to its part."""
    ends = np.cumsum(block.sizes, dtype=np.int64)
    begin = ends - block.sizes
    begin[0] = block.skip
    begin, ends = begin.compress(block.good), ends.compress(block.good)
    for number, part in enumerate(parts):
        rows = np.flatnonzero(numbers == number) if len(parts) > 1 else np.arange(len(numbers))
        if len(rows):
            spans = map(slice, begin.take(rows).tolist(), ends.take(rows).tolist())
            part.append(pool, disk, len(rows), b"".join(map(view.__getitem__, spans)))
