"""Raw files copied to a local disk with verification, and annotations rewritten to the copy.

Every file is hashed while it is read, and the copy is read back, block by block as it is written, and compared. What is verified is
written down line by line in `copied.jsonl` beside the copy, so a copy that was stopped goes on without reading those files again; a
source whose size or time has changed since is copied anew.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from trainyard.data.errors import DataError
from trainyard.data.files import replacing, unit_hash
from trainyard.data.names import from_text
from trainyard.data.refused import Refused, write_quarantine
from trainyard.data.sources import SourceFolder
from trainyard.data.storage import free_bytes, size
from trainyard.data.walk import Found, walk
from trainyard.data.work_folder import held_empty

RECORD = "copied.jsonl"
HALF = ".copying"
BLOCK = 256 << 10  # read, hashed and written at once


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
    record = _read_record(local)
    need = sum(f.size for f in files if f.path not in record)
    free = free_bytes(local)
    if need > free:
        raise DataError(
            f"{local}: the copy needs {size(need)} more, {size(free)} are free: "
            f"{size(need - free)} are missing; make room, or copy a --subset"
        )
    folder = SourceFolder(source, max_bytes, BLOCK)
    result: dict[str, Any] = {"copied": 0, "kept": 0, "bytes": 0}
    with (
        held_empty(local / HALF, f"{local}: another copy_to_local.py is writing there; wait for it or give another --local-root") as half,
        open(local / RECORD, "a", encoding="utf-8") as log,
        ThreadPoolExecutor(threads) as pool,
    ):
        if log.tell() and not _ends_in_newline(local / RECORD):
            log.write("\n")  # behind the half line of a kill
        jobs = (pool.submit(_copy_one, folder, local, half / str(i), f, record.get(f.path)) for i, f in enumerate(files))
        for found, future in _windowed(jobs, files, 4 * threads):
            try:
                entry, fresh = future.result()
            except Refused as reason:
                refused[found.path] = str(reason)
                continue
            except OSError as error:
                raise DataError(_local_words(local, error, result["bytes"])) from None
            result["copied" if fresh else "kept"] += 1
            result["bytes"] += entry["size"]
            if fresh:
                log.write(json.dumps(entry) + "\n")
                log.flush()
    return result


def _local_words(local: Path, error: OSError, done: int) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{local}: the disk is full after {size(done)}; make room and run again, which goes on from there, or copy a --subset"
    return f"{error.filename or local}: cannot be written: {error.strerror}"


def _windowed(jobs: Iterator, files: list[Found], ahead: int) -> Iterator[tuple[Found, Any]]:
    waiting: list = []
    for found in files:
        waiting.append((found, next(jobs)))
        if len(waiting) > ahead:
            yield waiting.pop(0)
    yield from waiting


def _copy_one(folder: SourceFolder, local: Path, half: Path, found: Found, known: dict | None) -> tuple[dict[str, Any], bool]:
    """The record of a file, and whether it was copied now. Raises Refused for the source's faults, OSError for the copy's."""
    target = local / from_text(found.path)
    if known is not None and folder.stamp(found.path) == (known.get("size"), known.get("mtime_ns")):
        with contextlib.suppress(OSError):
            if target.stat().st_size == known["size"]:
                return known, False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(half, "w+b", buffering=0) as out:
            copy = _Copy(out)
            try:
                size, mtime_ns = folder.stream(found.path, copy.take, copy.restart)
            except Refused:
                if copy.failed is not None:
                    raise copy.failed from None
                raise
            if not copy.is_same():
                raise Refused("the copy differs from what was read: check the local disk")
            os.utime(out.fileno(), ns=(mtime_ns, mtime_ns))
            os.fsync(out.fileno())
        os.replace(half, target)
    except (Refused, OSError):
        half.unlink(missing_ok=True)
        raise
    return {"path": found.path, "size": size, "mtime_ns": mtime_ns, "xxh3": copy.read.hexdigest()}, True


class _Copy:
    """A file while it is written: hashed as it came, and as the copy gives it back.

    Each block is read back as soon as it is written: the processor's caches still hold it, which makes it cost half as much.
    """

    def __init__(self, out: BinaryIO):
        self.read, self.written = xxhash.xxh3_128(), xxhash.xxh3_128()
        self.failed: OSError | None = None
        self._out, self._buffer = out, bytearray()

    def take(self, block: bytes) -> None:
        """Write and read back one block. Raises Refused when the copy fails; why is in `failed`."""
        self.read.update(block)
        try:
            at = self._out.tell()
            view = memoryview(block)
            while view:
                view = view[self._out.write(view) :]
            self._read_back(at, len(block))
        except OSError as error:
            self.failed = error
            raise Refused("the copy cannot be written") from None

    def restart(self) -> None:
        self.read.reset()
        self.written.reset()
        self._out.seek(0)
        self._out.truncate()

    def is_same(self) -> bool:
        """Whether the copy holds what was read, and nothing more."""
        return self.written.digest() == self.read.digest() and os.fstat(self._out.fileno()).st_size == self._out.tell()

    def _read_back(self, at: int, size: int) -> None:
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        view, got = memoryview(self._buffer)[:size], 0
        while got < size and (count := os.preadv(self._out.fileno(), [view[got:]], at + got)):
            got += count
        self.written.update(view[:got])


def _ends_in_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read_record(local: Path) -> dict[str, dict[str, Any]]:
    """What is verified already; a half line at the end (a kill) does not count."""
    out: dict[str, dict[str, Any]] = {}
    try:
        lines = (local / RECORD).read_bytes().split(b"\n")[:-1]
    except OSError:
        return out
    for line in lines:
        try:
            entry = json.loads(line)
            out[entry["path"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return out
