"""Raw files copied to a local disk with verification, and annotations rewritten to the copy.

Every file is hashed while it is read, and the copy is read back, block by block as it is written, and compared. What is verified is
written down in `copied.jsonl` beside the copy, so a copy that was stopped goes on without reading those files again; a source whose
size or time has changed since is copied anew. Large files are brought to the disk as they are written, the others together at the end:
one by one they would take many times as long. Copies of a run that did not come that far are compared with their hashes by the next one.
"""

import contextlib
import errno
import itertools
import math
import os
from contextlib import closing
from pathlib import Path
from threading import Semaphore
from typing import Any

import xxhash

from trainyard.data.ahead import Ahead, in_batches
from trainyard.data.copied import RECORD, Entry, open_record, read_record, write_entries, write_synced
from trainyard.data.errors import DataError
from trainyard.data.files import replacing, sync_folders, unit_hash
from trainyard.data.half_copy import BLOCK, HalfCopy
from trainyard.data.names import from_text
from trainyard.data.refused import Refused, write_quarantine
from trainyard.data.sources import SourceFolder
from trainyard.data.storage import free_bytes, size
from trainyard.data.walk import Found, walk
from trainyard.data.work_folder import held_empty
from trainyard.host.resources import usable_cores

HALF = ".copying"
BATCH = 8  # files that are written down together
QUICK = 250e-6  # seconds a file; most of it the processor makes a file, which threads of one process do not do sooner


def mirror(
    source: Path, local: Path, annotations: list[str], subset: int | None, seed: int, threads: int, max_bytes: int
) -> dict[str, Any]:
    """Copy `source` to `local`; with annotations (files below the source, by any path) only the files that their rows name.

    Raises DataError.
    `subset`: so many rows of each annotation file at most (without annotations: so many files), drawn by hash.
    Returns copied, kept, refused, bytes and, by annotation file, the rows written.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; mount it or correct --source")
    there, target = os.path.realpath(source), os.path.realpath(local)
    if target == there or target.startswith(there + "/") or there.startswith(target + "/"):
        raise DataError(f"{local}: source and copy lie inside each other; give another --local-root")
    names = list[str]()
    if annotations:
        from trainyard.data.annotation_copy import AnnotationCopy, name_below

        names = list(dict.fromkeys(name_below(source, name) for name in annotations))
    found = walk(source, lambda path: path not in names and path != RECORD)
    files = {f.path: f for f in found if f.refused is None}
    refused = {f.path: f.refused for f in found if f.refused is not None}
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
        for some, read in ahead.map(copies.read, in_batches(files, lambda f: f.size, BATCH)):
            fresh = []
            for found, outcome in zip(some, read):
                entry = copies.settle(found, outcome) if isinstance(outcome, HalfCopy) else outcome
                if isinstance(entry, Refused):
                    refused[found.path] = str(entry)
                elif isinstance(entry, OSError):
                    raise DataError(_local_words(local, entry, result["bytes"])) from None
                else:
                    fresh += [entry] if entry is not outcome else []
                    result["bytes"] += entry["size"]
                    result["copied" if entry is not outcome else "kept"] += 1
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
        self._numbers, self._turn = itertools.count(), Semaphore(max(1, int(usable_cores())))

    def read(self, found: Found) -> Entry | HalfCopy | Refused | OSError:
        """What is known of a file that is there already, or a copy to be settled. Refused: a fault of the source; OSError: of the copy."""
        known = self._record.get(found.path)
        copy = HalfCopy(f"{self._half}/{next(self._numbers)}", self._turn)
        try:
            if known is not None and self._is_there(known):
                return known
            copy.size, copy.mtime_ns = self._source.stream(found.path, copy.take, copy.restart)
            if copy.begun:
                copy.finish()
            return copy
        except (Refused, OSError) as error:
            copy.drop()
            return copy.failed or error

    def settle(self, found: Found, copy: HalfCopy) -> Entry | Refused | OSError:
        """Put a copy in its place and return its record. A small file is only written here: threads that have a source's answers
        at the same moment would wait for each other more than for the disk."""
        target = f"{self._local}/{from_text(found.path)}"
        folder = target.rpartition("/")[0]
        try:
            if folder not in self.folders:
                os.makedirs(folder, exist_ok=True)
                self.folders.add(folder)
            if not copy.begun:
                copy.finish()
            os.replace(copy.path, target)
        except (Refused, OSError) as error:
            copy.drop()
            return copy.failed or error
        return {"path": found.path, "size": copy.size, "mtime_ns": copy.mtime_ns, "xxh3": copy.read.hexdigest()}

    def _is_there(self, known: Entry) -> bool:
        """Whether source and copy are as they are known; a copy that may not have reached the disk is read again."""
        if self._source.stamp(known["path"]) != (known["size"], known["mtime_ns"]):
            return False
        target = f"{self._local}/{from_text(known['path'])}"
        with contextlib.suppress(OSError):
            if os.stat(target).st_size == known["size"]:
                return known["path"] not in self._unsure or _digest(target) == known["xxh3"]
        return False


def _digest(path: str) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
