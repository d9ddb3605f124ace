"""The record of a raw copy, `copied.jsonl`: a line a file that is copied and verified, and one when all before it are on the disk."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

RECORD = "copied.jsonl"
Entry = dict[str, Any]  # path (as text, see names), size, mtime_ns of the source, xxh3 of the content


def read_record(path: Path) -> tuple[dict[str, Entry], set[str]]:
    """What is verified already, by path, and which of it may not have reached the disk. Half a line (a kill) does not count."""
    entries: dict[str, Entry] = {}
    unsure: set[str] = set()
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return entries, unsure
    for line in lines:
        try:
            entry = json.loads(line)
            if entry.get("synced"):
                unsure.clear()
                continue
            entries[entry["path"]] = {name: entry[name] for name in ("path", "size", "mtime_ns", "xxh3")}
            unsure.add(entry["path"])
        except (ValueError, KeyError, AttributeError, TypeError):
            continue
    return entries, unsure


@contextmanager
def open_record(path: Path) -> Iterator[BinaryIO]:
    """The record, to be added to."""
    with open(path, "a+b") as log:
        if log.tell():
            log.seek(-1, os.SEEK_END)
            if log.read(1) != b"\n":
                log.write(b"\n")  # behind the half line of a kill
        yield log


def write_entries(log: BinaryIO, entries: Iterable[Entry]) -> None:
    """Add files that are in their places; they are with the system then, and outlive this process."""
    log.write("".join(f"{json.dumps(entry)}\n" for entry in entries).encode())
    log.flush()


def write_synced(log: BinaryIO) -> None:
    """Say that all files before are on the disk, and bring this record there."""
    log.write(b'{"synced": true}\n')
    log.flush()
    os.fsync(log.fileno())
