"""From index rows to bytes: files read ahead by threads in a bounded window, JSON rows by offset, table rows as they are."""

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from trainyard.data.errors import DataError
from trainyard.data.names import from_text
from trainyard.data.refused import Refused
from trainyard.data.sources import SourceFolder, Stamp
from trainyard.data.storage import FEWEST_READS

WINDOW_BYTES = 256 << 20  # read ahead at most, and at least one sample
BATCH, BATCH_BYTES = 16, 1 << 20  # small files that one thread reads in a row
UNKNOWN_SIZE = 1 << 20
OPEN_FILES = 256  # the usual limit of a process is 1,024


class Loaded(NamedTuple):
    """A sample's bytes, how many files they are, and their xxh3; or why there are none. `stamps`: of each file, as it was read."""

    blobs: list[bytes]
    digest: bytes
    refused: str | None = None
    stamps: tuple[Stamp, ...] = ()
    files: int = 0
    size: int = 0
    kind: str = "new"  # unread; new; or a content that was seen before: "inside" its split, "across" splits, "again" (and kept)

    @classmethod
    def of(cls, blobs: list[bytes], digest: bytes, stamps: Iterable[Stamp] = ()) -> "Loaded":
        return cls(blobs, digest, None, tuple(stamps), len(blobs), sum(map(len, blobs)))

    @classmethod
    def not_read(cls, reason: str) -> "Loaded":
        return cls([], b"", reason, kind="unread")

    def without_bytes(self) -> "Loaded":
        """What is remembered of it while and after it is decoded."""
        return Loaded([], self.digest, self.refused, self.stamps, self.files, self.size, self.kind)


Sample = dict[str, Any]
Given = tuple[Sample, Loaded]


class ReadAhead:
    """Reads by threads, in order, with a bounded number of samples and bytes ahead."""

    def __init__(self, threads: int, read: Callable[[Sample], Loaded]):
        self._pool, self._read = ThreadPoolExecutor(threads, thread_name_prefix="read"), read
        # Handing a file to a thread costs more than reading a small one from a disk; on a mount each file has to wait by itself.
        self._batch = BATCH if threads <= FEWEST_READS else 1
        self._most = 4 * threads

    def load(self, samples: Iterator[Sample], at_once: Callable[[Sample], Loaded | None] = lambda sample: None) -> Iterator[Given]:
        """Each sample with its bytes. `at_once` may give what needs no thread."""
        waiting: deque[tuple[list[Sample], int, Future[list[Loaded]]]] = deque()
        batch: list[Sample] = []
        ahead = size = 0
        for sample in samples:
            if (loaded := at_once(sample)) is not None:
                if batch:
                    waiting.append((batch, size, self._submit(batch)))
                    batch, size = [], 0
                while waiting:
                    yield from _results(waiting.popleft())
                ahead = 0
                yield sample, loaded
                continue
            batch.append(sample)
            size += sample["size"] or UNKNOWN_SIZE
            if len(batch) < self._batch and size < BATCH_BYTES:
                continue
            while waiting and (ahead + size > WINDOW_BYTES or len(waiting) >= self._most):
                ahead -= waiting[0][1]
                yield from _results(waiting.popleft())
            waiting.append((batch, size, self._submit(batch)))
            ahead += size
            batch, size = [], 0
        if batch:
            waiting.append((batch, size, self._submit(batch)))
        while waiting:
            yield from _results(waiting.popleft())

    def each(self, work: Callable[..., Any], *values: Sequence[Any]) -> Iterator[Any]:
        """`work` of all values, by the threads."""
        return self._pool.map(work, *values)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, batch: list[Sample]) -> Future[list[Loaded]]:
        return self._pool.submit(lambda: [self._read(sample) for sample in batch])


def _results(waiting: tuple[list[Sample], int, Future[list[Loaded]]]) -> Iterator[Given]:
    return zip(waiting[0], waiting[2].result())


class FileLoader:
    """Samples that are whole files. `files(sample)` names them; each is opened once."""

    def __init__(self, folder: SourceFolder, files: Callable[[Sample], Sequence[str]], threads: int):
        self._folder, self._files = folder, files
        self._ahead = ReadAhead(threads, self._read)

    def load(self, samples: Iterator[Sample]) -> Iterator[Given]:
        """Each sample with its bytes, in order."""
        return self._ahead.load(samples)

    def unchanged(self, samples: Sequence[Sample], known: Sequence[tuple[str | None, Sequence[Stamp]]]) -> int:
        """How many of the samples, from the first on, are as they are known: the reason why they could not be read, or stamps.

        Opens only those that could not be read before.
        """
        same = self._ahead.each(self._as_known, samples, known)
        return next((i for i, good in enumerate(same) if not good), len(samples))

    def close(self) -> None:
        self._ahead.close()

    def _as_known(self, sample: Sample, known: tuple[str | None, Sequence[Stamp]]) -> bool:
        reason, stamps = known
        if reason is not None:
            return self._read(sample).refused == reason
        return [self._folder.stamp(path) for path in self._files(sample)] == [tuple(s) for s in stamps]

    def _read(self, sample: Sample) -> Loaded:
        try:
            read = [self._folder.read(path) for path in self._files(sample)]
        except Refused as reason:
            return Loaded.not_read(str(reason))
        blobs = [data for data, _ in read]
        digest = xxhash.xxh3_128_digest(b"".join(xxhash.xxh3_128_digest(b) for b in blobs))
        return Loaded.of(blobs, digest, (stamp for _, stamp in read))


class RowLoader:
    """Samples that are rows of JSON files, by byte offset. A file of many rows is opened once and stays open; one that is a single
    row, as folders of JSON files hold them, is read ahead by threads and closed again."""

    def __init__(self, base: Path, sources: Sequence[dict[str, Any]], max_bytes: int, threads: int = 8):
        self._base, self._max = base, max_bytes
        self._sizes = {s["path"]: s["size"] for s in sources}
        self._open: OrderedDict[str, int] = OrderedDict()
        self._ahead = ReadAhead(threads, self._read_alone)

    def load(self, samples: Iterator[Sample]) -> Iterator[Given]:
        """Each row with its bytes, in order. Raises DataError when a file of many rows has changed since it was indexed."""
        return self._ahead.load(samples, self._at_once)

    def unchanged(self, samples: Sequence[Sample], known: Sequence[tuple[str | None, Sequence[Stamp]]]) -> int:
        """As of FileLoader; that a file of many rows has changed is known of all its rows at once (see journal.identity_of)."""
        same = self._ahead.each(self._as_known, samples, known)
        return next((i for i, good in enumerate(same) if not good), len(samples))

    def close(self) -> None:
        self._ahead.close()
        for file in self._open.values():
            os.close(file)

    def _as_known(self, sample: Sample, known: tuple[str | None, Sequence[Stamp]]) -> bool:
        reason, stamps = known
        if reason is not None:
            return (self._too_large(sample) or self._read_alone(sample)).refused == reason
        if not stamps:
            return True
        try:
            status = os.stat(self._path(sample))
        except OSError:
            return False
        return [(status.st_size, status.st_mtime_ns)] == [tuple(s) for s in stamps]

    def _at_once(self, sample: Sample) -> Loaded | None:
        """A row of a file that has more of them, and what is refused unread."""
        if (refused := self._too_large(sample)) is not None:
            return refused
        if _alone(sample["size"], self._sizes.get(sample["path"], 0)):
            return None
        return _row(os.pread(self._file(sample["path"]), sample["size"], sample["row"]))

    def _too_large(self, sample: Sample) -> Loaded | None:
        if sample["size"] <= self._max:
            return None
        reason = f"{sample['size'] / 1e6:,.0f} MB in one row, more than the {self._max / 1e6:,.0f} MB that a row may have"
        return Loaded.not_read(reason)

    def _read_alone(self, sample: Sample) -> Loaded:
        """One file is one sample here: what is wrong with it is no reason to stop."""
        try:
            file = os.open(self._path(sample), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return Loaded.not_read(f"cannot be opened any longer: {error.strerror}")
        try:
            status = os.fstat(file)
            if status.st_size != self._sizes[sample["path"]]:
                return Loaded.not_read("has changed since it was indexed")
            return _row(os.pread(file, sample["size"], sample["row"]), [(status.st_size, status.st_mtime_ns)])
        finally:
            os.close(file)

    def _path(self, sample: Sample) -> str:
        return os.path.join(self._base, from_text(sample["path"]))

    def _file(self, text: str) -> int:
        """The handle of a file of many rows; of more than OPEN_FILES the one that was used longest ago is closed."""
        if text not in self._open:
            if len(self._open) >= OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            self._open[text] = self._opened(text)
        self._open.move_to_end(text)
        return self._open[text]

    def _opened(self, text: str) -> int:
        path = self._base / from_text(text)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"{path}: cannot be opened any longer: {error.strerror}; make the index again") from None
        if os.fstat(file).st_size != self._sizes.get(text, -1):
            os.close(file)
            raise DataError(f"{path}: has changed since it was indexed; make the index again (snakemake --forcerun index_dataset)")
        return file


def _alone(size: int, file_size: int) -> bool:
    """Whether a row is read as if it were its whole file."""
    return size > file_size // 2


def files_of_rows(sources: Sequence[Mapping[str, Any]], index: Mapping[str, Sequence]) -> list[str]:
    """The files of JSON rows that stay open while they are read. Of the others each has a stamp of its own, taken when it is read:
    to ask for all of them beforehand would cost a mount's latency once more."""
    sizes = {s["path"]: s["size"] for s in sources}
    held = {path for path, size in zip(index["path"], index["size"]) if not _alone(size, sizes.get(path, 0))}
    return [s["path"] for s in sources if s["path"] in held]


def _row(data: bytes, stamps: Iterable[Stamp] = ()) -> Loaded:
    return Loaded.of([data], xxhash.xxh3_128_digest(data.strip()), stamps)


class TableLoader:
    """Samples that are rows of a table: the index holds them."""

    def load(self, samples: Iterator[Sample]) -> Iterator[Given]:
        for sample in samples:
            cells = [f"{key}={value}" for key, value in sorted((sample["extra"] or {}).items())]
            yield sample, Loaded.of([], xxhash.xxh3_128_digest("\0".join(cells).encode()))

    def unchanged(self, samples: Sequence[Sample], known: Sequence[tuple[str | None, Sequence[Stamp]]]) -> int:
        return len(samples)

    def close(self) -> None:
        pass
