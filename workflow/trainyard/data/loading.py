"""From index rows to bytes, a batch at a time: files read ahead, JSON rows by offset, table rows as they are."""

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from trainyard.data.ahead import Ahead, Batch, in_batches
from trainyard.data.columns import Column
from trainyard.data.errors import DataError
from trainyard.data.names import from_text
from trainyard.data.refused import Refused
from trainyard.data.sources import SourceFolder, Stamp

UNKNOWN_SIZE = 1 << 20
PORTION = 512  # rows of the index that are looked up together
PLAIN = ("id", "path", "row", "size", "label", "group")  # columns that a sample has as they are
NAMES = ("at", "extra", *PLAIN)
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
    decoded: Any = None  # its fields (see workers.Decoded), where whoever read it has decoded it too

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


def size_of(sample: Sample) -> int:
    """Bytes that a sample may take in memory."""
    return sample["size"] or UNKNOWN_SIZE


def samples_of(index: Mapping[str, Column], rows: Iterable[int]) -> Iterator[Sample]:
    """Rows of an index, as readers are given them."""
    left = iter(rows)
    while some := list(islice(left, PORTION)):
        extra = [json.loads(text) if text is not None else None for text in index["extra"].take(some)]
        yield from (dict(zip(NAMES, values)) for values in zip(some, extra, *(index[name].take(some) for name in PLAIN)))


class Loader:
    """Reads batches of samples in order. What a kind of sample needs of its own: `_read` and `_stamps`."""

    def __init__(self, threads: int):
        self._ahead = Ahead(threads)

    def load(self, batches: Iterable[Batch]) -> Iterator[list[Given]]:
        """Each batch of samples with their bytes."""
        return (list(zip(samples, read)) for samples, read in self._ahead.map(self._read, batches, self._at_once))

    def unchanged(self, samples: Sequence[Sample], known: Sequence[tuple[str | None, Sequence[Stamp]]]) -> int:
        """How many of the samples, from the first on, are as they are known: the reason why they could not be read, or stamps.

        Opens only those that could not be read before.
        """
        looked = self._ahead.map(self._as_known, in_batches(zip(samples, known)))
        return next((i for i, good in enumerate(chain.from_iterable(good for _, good in looked)) if not good), len(samples))

    def close(self) -> None:
        self._ahead.close()

    def _as_known(self, pair: tuple[Sample, tuple[str | None, Sequence[Stamp]]]) -> bool:
        sample, (reason, stamps) = pair
        if reason is not None:
            return self._read(sample).refused == reason
        return self._stamps(sample) == [tuple(s) for s in stamps]

    def _at_once(self, sample: Sample) -> Loaded | None:
        """What no thread may read, or needs to."""
        return None

    def _read(self, sample: Sample) -> Loaded:
        raise NotImplementedError

    def _stamps(self, sample: Sample) -> list[Stamp | None]:
        """Those that its files have now, without opening them; None of a file that is not there."""
        raise NotImplementedError


class FileLoader(Loader):
    """Samples that are whole files. `files(sample)` names them; each is opened once."""

    def __init__(self, folder: SourceFolder, files: Callable[[Sample], Sequence[str]], threads: int):
        super().__init__(threads)
        self._folder, self._files = folder, files

    def _read(self, sample: Sample) -> Loaded:
        try:
            read = [self._folder.read(path) for path in self._files(sample)]
        except Refused as reason:
            return Loaded.not_read(str(reason))
        blobs = [data for data, _ in read]
        digest = xxhash.xxh3_128_digest(b"".join(xxhash.xxh3_128_digest(b) for b in blobs))
        return Loaded.of(blobs, digest, (stamp for _, stamp in read))

    def _stamps(self, sample: Sample) -> list[Stamp | None]:
        return [self._folder.stamp(path) for path in self._files(sample)]


class RowLoader(Loader):
    """Samples that are rows of JSON files, by byte offset. A file of many rows is opened once and stays open; one that is a single
    row, as folders of JSON files hold them, is read ahead and closed again. `load` raises DataError when a file of many rows has changed
    since it was indexed; for `unchanged` that is known of all its rows at once (see journal.identity_of)."""

    def __init__(self, base: Path, sources: Sequence[dict[str, Any]], max_bytes: int, threads: int = 8):
        super().__init__(threads)
        self._base, self._max = str(base).rstrip("/"), max_bytes
        self._sizes = {s["path"]: s["size"] for s in sources}
        self._open: OrderedDict[str, int] = OrderedDict()

    def close(self) -> None:
        super().close()
        for file in self._open.values():
            os.close(file)

    def _at_once(self, sample: Sample) -> Loaded | None:
        """A row of a file that has more of them."""
        if self._is_alone(sample) or sample["size"] > self._max:
            return None
        return _row(os.pread(self._file(sample["path"]), sample["size"], sample["row"]))

    def _read(self, sample: Sample) -> Loaded:
        size = sample["size"]
        if size <= self._max:
            return self._read_alone(sample)
        return Loaded.not_read(f"{size / 1e6:,.0f} MB in one row, more than the {self._max / 1e6:,.0f} MB that a row may have")

    def _read_alone(self, sample: Sample) -> Loaded:
        """One file is one sample here: what is wrong with it is no reason to stop."""
        try:
            file = os.open(self._path(sample["path"]), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return Loaded.not_read(f"cannot be opened any longer: {error.strerror}")
        try:
            status = os.fstat(file)
            if status.st_size != self._sizes[sample["path"]]:
                return Loaded.not_read("has changed since it was indexed")
            return _row(os.pread(file, sample["size"], sample["row"]), ((status.st_size, status.st_mtime_ns),))
        finally:
            os.close(file)

    def _stamps(self, sample: Sample) -> list[Stamp | None]:
        if not self._is_alone(sample):
            return []
        try:
            status = os.stat(self._path(sample["path"]))
        except OSError:
            return [None]
        return [(status.st_size, status.st_mtime_ns)]

    def _is_alone(self, sample: Sample) -> bool:
        """Whether a row is read as if it were its whole file."""
        return _alone(sample["size"], self._sizes.get(sample["path"], 0))

    def _path(self, text: str) -> str:
        return f"{self._base}/{from_text(text)}"

    def _file(self, text: str) -> int:
        """The handle of a file of many rows; of more than OPEN_FILES the one that was used longest ago is closed."""
        if text not in self._open:
            if len(self._open) >= OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            self._open[text] = self._opened(text)
        self._open.move_to_end(text)
        return self._open[text]

    def _opened(self, text: str) -> int:
        path = self._path(text)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"{path}: cannot be opened any longer: {error.strerror}; make the index again") from None
        if os.fstat(file).st_size != self._sizes.get(text, -1):
            os.close(file)
            raise DataError(f"{path}: has changed since it was indexed; make the index again (snakemake --forcerun index_dataset)")
        return file


class TableLoader(Loader):
    """Samples that are rows of a table: the index holds them."""

    def __init__(self) -> None:
        super().__init__(1)

    def _at_once(self, sample: Sample) -> Loaded:
        cells = [f"{key}={value}" for key, value in sorted((sample["extra"] or {}).items())]
        return Loaded([], xxhash.xxh3_128_digest("\0".join(cells).encode()))

    def _stamps(self, sample: Sample) -> list[Stamp | None]:
        return []


def _alone(size: int, file_size: int) -> bool:
    return size > file_size // 2


def files_of_rows(sources: Sequence[Mapping[str, Any]], index: Mapping[str, Sequence]) -> list[str]:
    """The files of JSON rows that stay open while they are read. Of the others each has a stamp of its own, taken when it is read:
    to ask for all of them beforehand would cost a mount's latency once more."""
    sizes = {s["path"]: s["size"] for s in sources}
    held = {path for path, size in zip(index["path"], index["size"]) if not _alone(size, sizes.get(path, 0))}
    return [s["path"] for s in sources if s["path"] in held] if held else []


def _row(data: bytes, stamps: tuple[Stamp, ...] = ()) -> Loaded:
    return Loaded([data], xxhash.xxh3_128_digest(data.strip()), None, stamps, 1, len(data))
