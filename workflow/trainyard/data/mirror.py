"""Raw files copied to a local disk with verification, and annotations rewritten to the copy.

Every file is hashed while it is read and the copy is read back and compared. What is verified is written down line by line
in `copied.jsonl` beside the copy, so a copy that was stopped goes on without reading those files again; a source whose size
or time has changed since is copied anew.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash

from trainyard.data.annotations import read_rows
from trainyard.data.errors import DataError
from trainyard.data.files import replacing, unit_hash
from trainyard.data.names import from_text, to_text
from trainyard.data.refused import Refused, write_quarantine
from trainyard.data.sources import SourceFolder
from trainyard.data.storage import free_bytes
from trainyard.data.walk import Found, walk

RECORD = "copied.jsonl"


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
    tables = {name: _Table(source, name, files, subset, seed) for name in names}
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
            f"{local}: the copy needs {need / 1e9:.2f} GB more, {free / 1e9:.2f} GB are free: "
            f"{(need - free) / 1e9:.2f} GB are missing; make room, or copy a --subset"
        )
    folder = SourceFolder(source, max_bytes)
    result: dict[str, Any] = {"copied": 0, "kept": 0, "bytes": 0}
    with open(local / RECORD, "a", encoding="utf-8") as log, ThreadPoolExecutor(threads) as pool:
        jobs = (pool.submit(_copy_one, folder, source, local, f, record.get(f.path)) for f in files)
        for found, future in _windowed(jobs, files, 4 * threads):
            try:
                entry, fresh = future.result()
            except Refused as reason:
                refused[found.path] = str(reason)
                continue
            result["copied" if fresh else "kept"] += 1
            result["bytes"] += entry["size"]
            if fresh:
                log.write(json.dumps(entry) + "\n")
                log.flush()
    return result


def _windowed(jobs: Iterator, files: list[Found], ahead: int) -> Iterator[tuple[Found, Any]]:
    waiting: list = []
    for found in files:
        waiting.append((found, next(jobs)))
        if len(waiting) > ahead:
            yield waiting.pop(0)
    yield from waiting


def _copy_one(folder: SourceFolder, source: Path, local: Path, found: Found, known: dict | None) -> tuple[dict[str, Any], bool]:
    """The record of a file, and whether it was copied now. Raises Refused."""
    name = from_text(found.path)
    target = local / name
    try:
        status = os.stat(source / name)
    except OSError as error:
        raise Refused(f"cannot be looked at: {error.strerror}") from None
    stamp = {"path": found.path, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if known is not None and all(known.get(k) == v for k, v in stamp.items()):
        try:
            if target.stat().st_size == status.st_size:
                return known, False
        except OSError:
            pass
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = xxhash.xxh3_128()
    with replacing(target) as temporary, open(temporary, "w+b") as out:

        def take(block: bytes) -> None:
            digest.update(block)
            out.write(block)

        def restart() -> None:
            digest.reset()
            out.seek(0)
            out.truncate()

        folder.stream(found.path, take, restart)
        out.flush()
        out.seek(0)
        again = xxhash.xxh3_128()
        while block := out.read(1 << 20):
            again.update(block)
        if again.digest() != digest.digest():
            raise Refused("the copy differs from what was read: check the local disk")
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return {**stamp, "xxh3": digest.hexdigest()}, True


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


class _Table:
    """One file of annotations: its chosen rows, and which of their values name files."""

    def __init__(self, source: Path, name: str, files: dict[str, Found], subset: int | None, seed: int):
        path = source / name
        if not path.is_file():
            raise DataError(f"{path}: no such file of annotations")
        self.source, self.name, self.refused = str(source), name, {}
        self._files = files
        rows = []
        for number, (_, _, row) in enumerate(read_rows(path)):
            if isinstance(row, dict):
                rows.append(row)
            else:
                self.refused[f"{name}#{number}"] = f"row {number + 1} is {row}"
        keyed = [(unit_hash(f"{name}#{json.dumps(row, sort_keys=True)}", f"subset:{seed}"), i) for i, row in enumerate(rows)]
        chosen = sorted(i for _, i in (sorted(keyed)[:subset] if subset is not None else keyed))
        self.rows = [rows[i] for i in chosen]
        head = path.read_bytes()[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
        self.kind = "csv" if path.suffix.lower() in (".csv", ".tsv", ".txt") else "list" if head.startswith(b"[") else "lines"

    def files(self) -> set[str]:
        """Files that the rows name."""
        return {found for row in self.rows for _, found in self._named(row)}

    def write(self, local: Path, refused: Mapping[str, str]) -> int:
        """The rows whose files were all copied, with paths into the copy; their number."""
        rows = []
        for row in self.rows:
            lost = [found for _, found in self._named(row) if found in refused]
            if lost:
                self.refused[f"{self.name}: row with '{lost[0]}'"] = f"left out: {refused[lost[0]]}"
                continue
            rows.append(self._rewrite(row, local))
        with replacing(local / self.name) as temporary, open(temporary, "w", encoding="utf-8", newline="") as out:
            if self.kind == "csv":
                writer = csv.DictWriter(out, list(rows[0]) if rows else [], extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            elif self.kind == "list":
                json.dump(rows, out, ensure_ascii=False, indent=1)
            else:
                out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return len(rows)

    def _named(self, value: Any) -> Iterator[tuple[str, str]]:
        """(text, file below the source) of every text in a row that names a file that is there."""
        if isinstance(value, dict):
            for part in value.values():
                yield from self._named(part)
        elif isinstance(value, list):
            for part in value:
                yield from self._named(part)
        elif isinstance(value, str) and (found := self._find(value)) is not None:
            yield value, found

    def _find(self, value: str) -> str | None:
        text = to_text(value).replace("\\", "/") if "/" not in value else to_text(value)
        if len(text) > 4096 or "\n" in text and text not in self._files:
            return None
        text = text.removeprefix("./").removeprefix(self.source.rstrip("/") + "/")
        if text in self._files:
            return text
        # Written on another machine, or beside the annotations: the longest end of the path that is there.
        beside = os.path.normpath(os.path.join(os.path.dirname(self.name), text))
        if beside in self._files:
            return beside
        parts = text.split("/")
        if not value.startswith("/") or len(parts) < 3:
            return None
        return next((end for i in range(1, len(parts) - 1) if (end := "/".join(parts[i:])) in self._files), None)

    def _rewrite(self, value: Any, local: Path) -> Any:
        if isinstance(value, dict):
            return {key: self._rewrite(part, local) for key, part in value.items()}
        if isinstance(value, list):
            return [self._rewrite(part, local) for part in value]
        if isinstance(value, str) and (found := self._find(value)) is not None:
            # A path below the root stays true below the new root; any other becomes the copy's own.
            return value if value.removeprefix("./") == found else str(local / from_text(found))
        return value
