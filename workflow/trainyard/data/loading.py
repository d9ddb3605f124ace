"""From index rows to bytes: files read ahead by threads in a bounded window, JSON rows by offset, table rows as they are."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from trainyard.data.errors import DataError
from trainyard.data.names import from_text
from trainyard.data.refused import Refused
from trainyard.data.sources import SourceFolder

WINDOW_BYTES = 256 << 20  # read ahead at most, and at least one sample
WINDOW_FILES = 512
UNKNOWN_SIZE = 1 << 20


@dataclass(frozen=True)
class Loaded:
    """A sample's bytes and their xxh3; or why there are none."""

    blobs: list[bytes]
    digest: bytes
    refused: str | None = None


Sample = dict[str, Any]


class FileLoader:
    """Samples that are whole files. `files(sample)` names them; each is opened once."""

    def __init__(self, folder: SourceFolder, files: Callable[[Sample], Sequence[str]], threads: int):
        self._folder, self._files = folder, files
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read")

    def load(self, samples: Iterator[Sample]) -> Iterator[tuple[Sample, Loaded]]:
        """Each sample with its bytes, in order."""
        waiting: deque[tuple[Sample, int, Future[Loaded]]] = deque()
        ahead = 0
        for sample in samples:
            size = sample["size"] or UNKNOWN_SIZE
            while waiting and (ahead + size > WINDOW_BYTES or len(waiting) >= WINDOW_FILES):
                first, its_size, future = waiting.popleft()
                ahead -= its_size
                yield first, future.result()
            waiting.append((sample, size, self._pool.submit(self._read, sample)))
            ahead += size
        while waiting:
            first, _, future = waiting.popleft()
            yield first, future.result()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, sample: Sample) -> Loaded:
        try:
            blobs = [self._folder.read(path) for path in self._files(sample)]
        except Refused as reason:
            return Loaded([], b"", str(reason))
        return Loaded(blobs, xxhash.xxh3_128_digest(b"".join(xxhash.xxh3_128_digest(b) for b in blobs)))


class RowLoader:
    """Samples that are rows of JSON files, by byte offset; each file is opened once."""

    def __init__(self, base: Path, sources: Sequence[dict[str, Any]], max_bytes: int):
        self._base, self._max = base, max_bytes
        self._sizes = {s["path"]: s["size"] for s in sources}
        self._open: dict[str, int] = {}

    def load(self, samples: Iterator[Sample]) -> Iterator[tuple[Sample, Loaded]]:
        for sample in samples:
            if sample["size"] > self._max:
                yield (
                    sample,
                    Loaded(
                        [], b"", f"{sample['size'] / 1e6:,.0f} MB in one row, more than the {self._max / 1e6:,.0f} MB that a row may have"
                    ),
                )
                continue
            data = os.pread(self._file(sample["path"]), sample["size"], sample["row"])
            yield sample, Loaded([data], xxhash.xxh3_128_digest(data.strip()))

    def close(self) -> None:
        for file in self._open.values():
            os.close(file)

    def _file(self, text: str) -> int:
        if text not in self._open:
            path = self._base / from_text(text)
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._open[text] = file
            if os.fstat(file).st_size != self._sizes.get(text, -1):
                raise DataError(f"{path}: has changed since it was indexed; make the index again (snakemake --forcerun index_dataset)")
        return self._open[text]


class TableLoader:
    """Samples that are rows of a table: the index holds them."""

    def load(self, samples: Iterator[Sample]) -> Iterator[tuple[Sample, Loaded]]:
        for sample in samples:
            cells = [f"{key}={value}" for key, value in sorted((sample["extra"] or {}).items())]
            yield sample, Loaded([], xxhash.xxh3_128_digest("\0".join(cells).encode()))

    def close(self) -> None:
        pass
