"""Files of annotations (JSON list, JSONL, CSV) and which sample each of their rows belongs to."""

import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainyard.config.base import nearest
from trainyard.data.errors import DataError
from trainyard.data.lines import scan_rows
from trainyard.data.names import shorten
from trainyard.data.refused import Refused
from trainyard.data.rules import look_up
from trainyard.data.table_file import table_rows

TABLES = (".csv", ".tsv", ".txt")  # endings of annotations that are tables; all others are JSON
PATH_KEYS = ("path", "file", "filename", "file_name", "item_name", "name", "id", "audio", "audio_path", "midi", "midi_path", "wav", "video")


def read_json_row(data: bytes) -> dict[str, Any]:
    """One row of a JSONL file. Raises ValueError in words: not UTF-8, not JSON, not an object."""
    try:
        row = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start} of the row)") from None
    except RecursionError:
        raise ValueError("not usable JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"a JSON {type(row).__name__}, not an object")
    return row


def read_rows(path: Path) -> list[tuple[int, int, dict[str, Any] | str]]:
    """All rows of a file of annotations: (byte offset, or row number of a CSV; size in bytes; the row or why it has none).

    A JSON file may hold a list of objects, one object a line, or one object whose values are objects: then the key joins
    the row as "path" if that has none.
    """
    if path.suffix.lower() in TABLES:
        return [(i, 0, row.get("") or dict(row)) for i, row in enumerate(table_rows(path))]
    try:
        starts, sizes = scan_rows(path)
    except Refused as error:
        raise DataError(f"{path}: {error}") from None
    rows: list[tuple[int, int, dict[str, Any] | str]] = []
    with open(path, "rb") as file:
        for start, size in zip(starts.tolist(), sizes.tolist()):
            file.seek(start)
            try:
                rows.append((start, size, read_json_row(file.read(size))))
            except ValueError as error:
                rows.append((start, size, str(error)))
    broken = all(isinstance(row, str) for _, _, row in rows)
    if rows and (broken or len(rows) == 1):
        keyed = keyed_rows(path)
        if keyed is not None:
            return [(i, 0, {"path": key} | row) for i, (key, row) in enumerate(keyed.items())]
        if broken:
            raise DataError(f"{path}: no row of it can be read; the first is {rows[0][2]}; expected JSONL, a JSON list of objects or CSV")
    return rows


def keyed_rows(path: Path) -> dict[str, dict[str, Any]] | None:
    """The rows of a file that is one JSON object whose values are objects, by their key; None for any other file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()) else None


def path_key(rows: Sequence[dict[str, Any]], wanted: str | None, file: Path) -> str:
    """The key of the rows that names a sample's file: the one asked for, or the first usual one. Raises DataError."""
    first = next(iter(rows), {})
    if wanted is not None:
        if all(look_up(row, wanted) is None for row in rows):
            raise DataError(f"{file}: fields.path is '{wanted}', but no row has that{nearest(wanted, list(first))}")
        return wanted
    for key in PATH_KEYS:
        if isinstance(first.get(key), str):
            return key
    keys = ", ".join(shorten(str(key), 40) for key in list(first)[:8]) + (", …" if len(first) > 8 else "")
    raise DataError(f"{file}: cannot tell which of {keys} names a sample's file; say so with fields: {{path: KEY}}")


def join_rows(paths: Sequence[str], rows: Sequence[dict[str, Any]], key: str, root: Path) -> tuple[list[int], list[str]]:
    """For each path the number of its row, or -1; and remarks.

    A row belongs to a file when its value is the file's path below the root, with or without the ending, or with its last
    `#` for the last `/` (M4Singer's item_name); else when it is the name of exactly one file, with or without the ending.
    """
    exact: dict[str, int] = {}
    names: dict[str, int] = {}
    paths = [composed(path) for path in paths]
    for i, path in enumerate(paths):
        exact[path] = i
    for i, path in enumerate(paths):
        stem = os.path.splitext(path)[0]
        exact[stem] = i if exact.get(stem, i) == i else -1
        for name in {path.rsplit("/", 1)[-1], stem.rsplit("/", 1)[-1]}:
            names[name] = i if names.get(name, i) == i else -1
    joined = [-1] * len(paths)
    lost, again = [], 0
    for number, row in enumerate(rows):
        value = look_up(row, key)
        at = _find(str(value), exact, names, root) if isinstance(value, (str, int)) else -1
        if at < 0:
            lost.append(str(value))
        elif joined[at] >= 0:
            again += 1
        else:
            joined[at] = number
    notes = []
    if lost:
        notes.append(f"{len(lost)} annotation rows name no file here, such as '{shorten(lost[0], 60)}'")
    if again:
        notes.append(f"{again} annotation rows name a file that an earlier row names; the first row counts")
    return joined, notes


def composed(text: str) -> str:
    """One spelling for letters with marks: some systems keep é in names as e and its accent."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _find(value: str, exact: dict[str, int], names: dict[str, int], root: Path) -> int:
    value = composed(value.strip().removeprefix("./"))
    tries = [value, "/".join(value.rsplit("#", 1)), value.replace("\\", "/")]
    if value.startswith("/"):
        tries.append(value.removeprefix(str(root).rstrip("/") + "/"))
    for candidate in tries:
        if (at := exact.get(candidate, -1)) >= 0:
            return at
    for candidate in tries:
        if (at := names.get(candidate.rsplit("/", 1)[-1], -1)) >= 0:
            return at
    return -1
