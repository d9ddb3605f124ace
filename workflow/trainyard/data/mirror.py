"""Raw files copied to a local disk with verification, and annotations rewritten to the copy.

Every file is hashed while it is read, and the copy is read back, block by block as it is written, and compared. What is verified is
written down in `copied.jsonl` beside the copy, so a copy that was stopped goes on without reading those files again; a source whose
size or time has changed since is copied anew. All files are brought to the disk together at the end: one by one they would take many
times as long. Copies of a run that did not come that far are compared with their hashes by the next one.
"""

import contextlib
import errno
import itertools
import math
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import xxhash

from trainyard.data.ahead import Ahead, in_batches
from trainyard.data.copied import RECORD, Entry, open_record, read_record, write_entries, write_synced
from trainyard.data.errors import DataError
from trainyard.data.files import replacing, sync_folders, unit_hash
from trainyard.data.names import from_text
from trainyard.data.refused import Refused, write_quarantine
from trainyard.data.sources import SourceFolder
from trainyard.data.storage import free_bytes, size
from trainyard.data.walk import Found, walk
from trainyard.data.work_folder import held_empty

HALF = ".copying"
BLOCK = 256 << 10  # read, hashed and written at once
BATCH = 8  # files that are written down together
QUICK = 250e-6  # seconds a file; most of it the processor makes a file, which threads of one process do not do sooner


def mirror(
    source: Path, local: Path, annotations: list[str], subset: int | None, seed: int, threads: int, max_bytes: int
) -> dict[str, Any]:
    """Copy `source` to `local`; with annotations only the files that their rows name. Raises DataError.

    `subset`: so many rows of each annotation file at most (without annotations: so many files), drawn by hash.
    Returns copied, kept, refused, bytes and, by annotation file, the rows written.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; mount it or correct --source")
    there, target = os.path.realpath(source), os.path.realpath(local)
    if target == there or target.startswith(there + "/") or there.startswith(target + "/"):
        raise DataError(f"{local}: source and copy lie inside each other; give another --local-root")
    names = [name.removeprefix(f"{source}/") for name in annotations]
    found = walk(source, lambda path: path not in names and path != RECORD)
    files = {f.path: f for f in found if f.refused is None}
    refused = {f.path: f.refused for f in found if f.refused is not None}
    if names:
        from trainyard.data.annotation_copy import AnnotationCopy
    tables = {name: AnnotationCopy(source, name, files, subset, seed) for name in names}
    if tables:
        wanted = sorted({path for table in tables.values() for path in table.files()})
    else:
        wanted = sorted(files)
        if subset is not None:
            wanted = sorted(sorted(wanted, key=lambda p: (unit_hash(p, f"subset:{seed}"), p))[:subset])
    if not wanted:
        raise DataError(f"{source}: no file to copy" + (f": the rows of {', '.join(names)} name none that is there" if names else ""))
    local.mkdir(parents=True, exist_ok=True)
    result = _copy_files(source, local, [files[p] for p in wanted], refused, threads, max_bytes)
    result["annotations"] = {}
    for name, table in tables.items():
        result["annotations"][name] = table.write(local, refused)
        refused |= table.refused
    with replacing(local / "quarantine.csv") as temporary:
        write_quarantine(temporary, sorted(refused.items()))
    result["refused"] = len(refused)
    return result


def _copy_files(source: Path, local: Path, files: list[Found], refused: dict[str, str], threads: int, max_bytes: int) -> dict[str, Any]:
    record, unsure = read_record(local / RECORD)
    need = sum(f.size for f in files if f.path not in record)
    free = free_bytes(local)
    if need > free:
        raise DataError(
            f"{local}: the copy needs {size(need)} more, {size(free)} are free: "
            f"{size(need - free)} are missing; make room, or copy a --subset"
        )
    result: dict[str, Any] = {"copied": 0, "kept": 0, "bytes": 0}
    busy = f"{local}: another copy_to_local.py is writing there; wait for it or give another --local-root"
    with (
        held_empty(local / HALF, busy) as half,
        open_record(local / RECORD) as log,
        closing(Ahead(threads, math.inf, QUICK)) as ahead,
    ):
        copies = _Copies(SourceFolder(source, max_bytes, BLOCK), str(local), str(half), record, unsure)
        for some, outcomes in ahead.map(copies.copy, in_batches(files, lambda f: f.size, BATCH)):
            fresh = []
            for found, outcome in zip(some, outcomes):
                if isinstance(outcome, Refused):
                    refused[found.path] = str(outcome)
                elif isinstance(outcome, OSError):
                    raise DataError(_local_words(local, outcome, result["bytes"])) from None
                else:
                    known = record.get(found.path) is outcome
                    result["kept" if known else "copied"] += 1
                    result["bytes"] += outcome["size"]
                    fresh += [] if known else [outcome]
            write_entries(log, fresh)
        try:
            sync_folders(copies.folders)
        except OSError as error:
            raise DataError(_local_words(local, error, result["bytes"])) from None
        write_synced(log)
    return result


def _local_words(local: Path, error: OSError, done: int) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{local}: the disk is full after {size(done)}; make room and run again, which goes on from there, or copy a --subset"
    return f"{error.filename or local}: cannot be written: {error.strerror}"


class _Copies:
    """Copies files, each in any thread. `record`: what is verified already; `unsure`: what of it may not have reached the disk."""

    def __init__(self, source: SourceFolder, local: str, half: str, record: dict[str, Entry], unsure: set[str]):
        self.folders = {local}
        self._source, self._local, self._half, self._record, self._unsure = source, local, half, record, unsure
        self._numbers = itertools.count()

    def copy(self, found: Found) -> Entry | Refused | OSError:
        """The record of a file that lies in its place now; Refused for the source's faults, OSError for the copy's."""
        target = f"{self._local}/{from_text(found.path)}"
        known = self._record.get(found.path)
        half = f"{self._half}/{next(self._numbers)}"
        try:
            if known is not None and self._is_there(target, known):
                return known
            self._make_folder(target.rpartition("/")[0])
            entry = self._write(found.path, half)
            os.replace(half, target)
            return entry
        except (Refused, OSError) as error:
            with contextlib.suppress(OSError):
                os.unlink(half)
            return error

    def _is_there(self, target: str, known: Entry) -> bool:
        """Whether source and copy are as they are known; a copy that may not have reached the disk is read again."""
        if self._source.stamp(known["path"]) != (known["size"], known["mtime_ns"]):
            return False
        with contextlib.suppress(OSError):
            if os.stat(target).st_size == known["size"]:
                return known["path"] not in self._unsure or _digest(target) == known["xxh3"]
        return False

    def _make_folder(self, folder: str) -> None:
        if folder not in self.folders:
            os.makedirs(folder, exist_ok=True)
            self.folders.add(folder)

    def _write(self, path: str, half: str) -> Entry:
        out = os.open(half, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            copy = _Copy(out)
            try:
                size, mtime_ns = self._source.stream(path, copy.take, copy.restart)
            except Refused:
                if copy.failed is not None:
                    raise copy.failed from None
                raise
            if not copy.is_same():
                raise Refused("the copy differs from what was read: check the local disk")
            os.utime(out, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(out)
        return {"path": path, "size": size, "mtime_ns": mtime_ns, "xxh3": copy.read.hexdigest()}


def _digest(path: str) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


class _Copy:
    """A file while it is written: hashed as it came, and as the copy gives it back.

    Each block is read back as soon as it is written: the processor's caches still hold it, which makes it cost half as much.
    """

    def __init__(self, out: int):
        self.read, self.written = xxhash.xxh3_128(), xxhash.xxh3_128()
        self.failed: OSError | None = None
        self._out, self._size, self._buffer = out, 0, bytearray()

    def take(self, block: bytes) -> None:
        """Write and read back one block. Raises Refused when the copy fails; why is in `failed`."""
        self.read.update(block)
        try:
            done = os.write(self._out, block)
            while done < len(block):
                done += os.write(self._out, memoryview(block)[done:])
            self._read_back(self._size, len(block))
        except OSError as error:
            self.failed = error
            raise Refused("the copy cannot be written") from None
        self._size += len(block)

    def restart(self) -> None:
        self.read.reset()
        self.written.reset()
        self._size = 0
        os.lseek(self._out, 0, os.SEEK_SET)
        os.ftruncate(self._out, 0)

    def is_same(self) -> bool:
        """Whether the copy holds what was read, and nothing more."""
        return self.written.digest() == self.read.digest() and os.fstat(self._out).st_size == self._size

    def _read_back(self, at: int, size: int) -> None:
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        view, got = memoryview(self._buffer)[:size], 0
        while got < size and (count := os.preadv(self._out, [view[got:]], at + got)):
            got += count
        self.written.update(view[:got])
