"""Packed chat rows: one split or shard in one JSONL file."""

import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.files import replacing
from trainyard.data.growing import GrowingFile

# All values of a packed row are texts, so that it is written by quoting them.
quote, quote_ascii = json.encoder.encode_basestring, json.encoder.encode_basestring_ascii


class ChatPack:
    """Packed chat rows: a JSONL file with id, group, prompt, answer (and messages) a line, mapped.

    Where lines begin is found at the first use; rows are parsed when they are asked for.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.meta: dict[str, Any] = {"format": "chat"}
        self._ends: np.ndarray | None = None
        with open(self.path, "rb") as file:
            self._size = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._size else b""

    def __len__(self) -> int:
        return len(self._line_ends())

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def names(self) -> list[str]:
        return ["id", "group", "prompt", "answer", "messages"]

    def row(self, row: int) -> dict[str, Any]:
        """One row as it was written. Raises ValueError naming file and line."""
        ends = self._line_ends()
        start = int(ends[row - 1]) + 1 if row else 0
        try:
            return json.loads(self._map[start : int(ends[row])])
        except ValueError as error:
            raise ValueError(f"{self.path}: line {row + 1} is not JSON: {error}; make the local copy again") from None

    def text(self, name: str, row: int) -> str:
        return self.row(row).get(name, "")

    def texts(self, name: str, rows: Iterable[int] | None = None) -> list[str]:
        return [self.text(name, int(r)) for r in (range(len(self)) if rows is None else rows)]

    def _line_ends(self) -> np.ndarray:
        """Where each line ends (its newline, or the end of the file), int64."""
        if self._ends is None:
            found = []
            for at in range(0, self._size, 1 << 24):
                block = np.frombuffer(self._map[at : at + (1 << 24)], np.uint8)
                found.append(np.flatnonzero(block == 10) + at)
            ends = np.concatenate(found) if found else np.zeros(0, np.int64)
            if self._size and self._map[-1:] != b"\n":
                ends = np.append(ends, self._size)
            self._ends = ends.astype(np.int64)
        return self._ends


class ChatWriter:
    """Writes a ChatPack row by row, with PackWriter's interface; nothing is left behind when the block fails, unless `keep`."""

    def __init__(self, path: str | os.PathLike, meta: dict[str, Any] | None = None, keep: bool = False):
        self.path, self.length = Path(path), 0
        self._keep, self._finished = keep, False
        self._part = self.path.with_name(f".{self.path.name}.part" if keep else f".{self.path.name}.{os.getpid()}.part")
        self._file: GrowingFile | None = None

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, fixed: dict[str, Any], ragged: dict[str, Any]) -> None:
        self.add_all([(fixed, ragged)])

    def add_all(self, rows: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> int:
        """Texts are written; tensors that other formats carry (labels, folds) have no place here. Returns the bytes."""
        try:
            data = "".join([_line(ragged) for _, ragged in rows]).encode()
        except UnicodeEncodeError:  # a file name that is not UTF-8, in the id
            data = b"".join(_encoded(ragged) for _, ragged in rows)
        self._lines().append(data)
        self.length += len(rows)
        return len(data)

    def mark(self) -> dict[str, Any]:
        """What `resume` needs to go on behind the last row."""
        return {"length": self.length, "part": self._lines().mark()}

    def resume(self, mark: dict[str, Any]) -> None:
        """Go on behind a mark. Raises ValueError when the part no longer holds what was written."""
        self._file, self.length = GrowingFile(self._part, mark["part"]), mark["length"]

    def finish(self) -> None:
        """Put the pack into place; the part stays until the block is left."""
        lines = self._lines()
        lines.close()
        with replacing(self.path) as temporary:
            try:
                os.link(lines.path, temporary)
            except OSError:  # a file system without links
                shutil.copyfile(lines.path, temporary)
        self._finished = True

    def __exit__(self, kind, *_):
        try:
            if kind is None and not self._finished:
                self.finish()
        finally:
            if self._file is not None:
                self._file.close()
            if kind is None or not self._keep:
                self._part.unlink(missing_ok=True)

    def _lines(self) -> GrowingFile:
        if self._file is None:
            self._file = GrowingFile(self._part)
        return self._file


def _line(row: dict[str, Any], quote: Callable[[str], str] = quote) -> str:
    """A row as a line of JSON."""
    messages = f',"messages":{quote(row["messages"])}' if row.get("messages") else ""
    texts = f'"id":{quote(row["id"])},"group":{quote(row["group"])},"prompt":{quote(row["prompt"])},"answer":{quote(row["answer"])}'
    return f"{{{texts}{messages}}}\n"


def _encoded(row: dict[str, Any]) -> bytes:
    try:
        return _line(row).encode()
    except UnicodeEncodeError:
        return _line(row, quote_ascii).encode()
