"""Annotations of files that are copied: which files their rows name, and the rows with paths into the copy."""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from trainyard.data.annotations import TABLES, composed, keyed_rows, read_rows
from trainyard.data.errors import DataError
from trainyard.data.files import replacing, unit_hash
from trainyard.data.names import from_text, to_text
from trainyard.data.table_file import open_table
from trainyard.data.walk import Found

# How a path begins that was written on another machine: its root, a drive, a variable, an address.
ELSEWHERE = re.compile(r"/|[A-Za-z]:/|[$%{~]|[a-z0-9]+://")


def name_below(source: Path, name: str) -> str:
    """How a file of annotations is called below the source, given by that name or by any path to it. Raises DataError for a file that
    lies elsewhere: what is written has no place in the copy then."""
    path = source / name if not os.path.isabs(name) and (source / name).is_file() else Path(name).expanduser()
    place, top = os.path.join(os.path.realpath(path.parent), path.name), os.path.realpath(source)
    if not path.is_file() or not place.startswith(top.rstrip("/") + "/"):
        raise DataError(f"{name}: no such file of annotations below {source}; give one that lies there")
    return os.path.relpath(place, top)


class AnnotationCopy:
    """One file of annotations: its chosen rows, and which of their values name files. `name`: see name_below."""

    def __init__(self, source: Path, name: str, files: Mapping[str, Found], subset: int | None, seed: int):
        self.source, self.name, self.refused = os.path.abspath(source), name, {}
        self._path, self._known = source / name, set(files)
        self._marked = {composed(file): file for file in files if not file.isascii()}
        rows = []
        for number, (_, _, row) in enumerate(read_rows(self._path)):
            if isinstance(row, dict):
                rows.append(row)
            else:
                self.refused[f"{name}#{number}"] = f"row {number + 1} is {row}"
        ranked = [(unit_hash(f"{name}#{json.dumps(row, sort_keys=True)}", f"subset:{seed}"), i) for i, row in enumerate(rows)]
        self._chosen = sorted(i for _, i in (sorted(ranked)[:subset] if subset is not None else ranked))
        self.rows = [rows[i] for i in self._chosen]

    def files(self) -> set[str]:
        """Files that the rows name."""
        return {found for row in self.rows for found in self._named(row)}

    def write(self, local: Path, refused: Mapping[str, str]) -> int:
        """The rows whose files were all copied, with paths into the copy, in the form that the file has; their number."""
        self._known |= refused.keys()
        kept = []
        for number, row in zip(self._chosen, self.rows):
            lost = [found for found in self._named(row) if found in refused]
            if lost:
                self.refused[f"{self.name}: row with '{lost[0]}'"] = f"left out: {refused[lost[0]]}"
            else:
                kept.append((number, self._rewrite(row, local)))
        # Half of a surrogate pair, or a name that is not UTF-8, is written as JSON writes it: \udcff.
        with replacing(local / self.name) as temporary, open(temporary, "w", -1, "utf-8", "backslashreplace", "") as out:
            self._write_rows(out, kept, local)
        return len(kept)

    def _write_rows(self, out: TextIO, kept: Sequence[tuple[int, dict[str, Any]]], local: Path) -> None:
        """`kept`: the number and the values of each row."""
        rows = [row for _, row in kept]
        if self._path.suffix.lower() in TABLES:
            with open_table(self._path) as table:
                writer = csv.DictWriter(out, table.columns, extrasaction="ignore", lineterminator="\n", delimiter=table.delimiter)
                if table.headed:
                    writer.writeheader()
            writer.writerows(rows)
            return
        with open(self._path, "rb") as file:
            first = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")[:1]
        keyed = keyed_rows(self._path) if first == b"{" else None
        if first == b"[":
            json.dump(rows, out, ensure_ascii=False, indent=1)
        elif keyed is not None:
            keys = list(keyed)
            values = {keys[i]: {k: v for k, v in row.items() if k != "path" or "path" in keyed[keys[i]]} for i, row in kept}
            json.dump({self._rewrite(key, local): row for key, row in values.items()}, out, ensure_ascii=False, indent=1)
        else:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def _named(self, value: Any) -> Iterator[str]:
        """The file below the source that each text in a row names."""
        if isinstance(value, dict):
            for part in value.values():
                yield from self._named(part)
        elif isinstance(value, list):
            for part in value:
                yield from self._named(part)
        elif isinstance(value, str) and (found := self._find(value)) is not None:
            yield found

    def _find(self, value: str) -> str | None:
        text = to_text(value).replace("\\", "/") if "/" not in value else to_text(value)
        if len(text) > 4096 or "\n" in text and text not in self._known:
            return None
        text = text.removeprefix("./").removeprefix(self.source.rstrip("/") + "/")
        # As it is, or beside the annotations.
        for tried in (text, os.path.normpath(os.path.join(os.path.dirname(self.name), text))):
            if (found := self._there(tried)) is not None:
                return found
        parts = text.split("/")
        if not ELSEWHERE.match(text) or len(parts) < 3:
            return None
        # A name alone could be that of anything, unless it lies in a folder that is called as the source is.
        last = len(parts) - (parts[-2] != os.path.basename(self.source))
        ends = (self._there("/".join(parts[i:])) for i in range(1, last))
        return next((end for end in ends if end is not None), None)  # the longest end of the path that is there

    def _there(self, path: str) -> str | None:
        """The file of this path, however its letters with marks are spelled."""
        return path if path in self._known else None if path.isascii() else self._marked.get(composed(path))

    def _rewrite(self, value: Any, local: Path) -> Any:
        if isinstance(value, dict):
            return {key: self._rewrite(part, local) for key, part in value.items()}
        if isinstance(value, list):
            return [self._rewrite(part, local) for part in value]
        if isinstance(value, str) and (found := self._find(value)) is not None:
            # A path below the root stays true below the new root; any other becomes the copy's own.
            return value if value.removeprefix("./") == found else str(local / from_text(found))
        return value
