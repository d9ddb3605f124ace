"""Annotations of files that are copied: which files their rows name, and the rows with paths into the copy."""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainyard.data.annotations import composed, read_rows
from trainyard.data.errors import DataError
from trainyard.data.files import replacing, unit_hash
from trainyard.data.names import from_text, to_text
from trainyard.data.table_file import open_table
from trainyard.data.walk import Found

# How a path begins that was written on another machine: its root, a drive, a variable, an address.
ELSEWHERE = re.compile(r"/|[A-Za-z]:/|[$%{~]|[a-z0-9]+://")


class AnnotationCopy:
    """One file of annotations: its chosen rows, and which of their values name files."""

    def __init__(self, source: Path, name: str, files: dict[str, Found], subset: int | None, seed: int):
        path = source / name
        if not path.is_file():
            raise DataError(f"{path}: no such file of annotations")
        self.source, self.name, self.refused = str(source), name, {}
        self._files = files
        self._marked = {composed(file): file for file in files if not file.isascii()}
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
                with open_table(Path(self.source) / self.name) as table:
                    fields, headed, delimiter = table.columns, table.headed, table.delimiter
                writer = csv.DictWriter(out, fields, extrasaction="ignore", lineterminator="\n", delimiter=delimiter)
                if headed:
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
        # As it is, or beside the annotations.
        for tried in (text, os.path.normpath(os.path.join(os.path.dirname(self.name), text))):
            if (found := self._there(tried)) is not None:
                return found
        parts = text.split("/")
        if not ELSEWHERE.match(text) or len(parts) < 3:
            return None
        ends = (self._there("/".join(parts[i:])) for i in range(1, len(parts) - 1))
        return next((end for end in ends if end is not None), None)  # the longest end of the path that is there

    def _there(self, path: str) -> str | None:
        """The file of this path, however its letters with marks are spelled."""
        return path if path in self._files else None if path.isascii() else self._marked.get(composed(path))

    def _rewrite(self, value: Any, local: Path) -> Any:
        if isinstance(value, dict):
            return {key: self._rewrite(part, local) for key, part in value.items()}
        if isinstance(value, list):
            return [self._rewrite(part, local) for part in value]
        if isinstance(value, str) and (found := self._find(value)) is not None:
            # A path below the root stays true below the new root; any other becomes the copy's own.
            return value if value.removeprefix("./") == found else str(local / from_text(found))
        return value
