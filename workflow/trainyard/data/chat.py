"""Chat rows: a prompt and the answer a model shall learn, from JSONL of any field names, packed as JSONL."""

import json
import mmap
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.files import replacing
from trainyard.data.growing import GrowingFile
from trainyard.data.refused import Refused
from trainyard.data.rules import look_up

MISSING = object()
FIELDS = ("prompt", "prompt_pattern", "answer", "answer_pattern", "messages")
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "bot": "assistant", "system": "system"}


class ChatReader:
    """Reads one JSONL line into prompt and answer.

    `context["fields"]` says where they are: `prompt` and `answer` name fields (dotted for nested ones); with
    `prompt_pattern` or `answer_pattern` the first group of that regular expression (`.` matches newlines too) is cut
    out of the field; `messages` names a list of {"role", "content"} (or {"from", "value"}) whose last answer is the
    answer. Without `fields`, `messages` is tried first, then `prompt` and `answer`. Objects become compact JSON text.
    """

    def __init__(self, features: Any, root: Path, context: dict):
        self.features, self.fields = features, dict(context.get("fields") or {})
        unknown = sorted(set(self.fields) - set(FIELDS))
        if unknown:
            raise ValueError(f"fields: unknown key '{unknown[0]}'; chat rows know {', '.join(FIELDS)}")
        self.patterns = {}
        for name in ("prompt", "answer"):
            pattern = self.fields.get(f"{name}_pattern")
            if pattern is not None:
                self.patterns[name] = _compile(f"fields.{name}_pattern", pattern)

    def read(self, blobs: list[bytes], sample: dict) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray | str]]:
        """Ragged texts "prompt", "answer" and "messages" (JSON of the turns before the prompt, or ""). Raises Refused."""
        row = _parse(blobs[0])
        if not isinstance(row, dict):
            raise Refused(f"a JSON object was expected, found {type(row).__name__}")
        messages = self.fields.get("messages") or ("messages" if not self.fields and isinstance(row.get("messages"), list) else None)
        if messages:
            before, prompt, answer = _conversation(field_of(row, messages), messages)
        else:
            before, prompt, answer = [], self._text(row, "prompt"), self._text(row, "answer")
        length = len(prompt) + len(answer) + sum(len(turn["content"]) for turn in before)
        if length > self.features.max_chars:
            raise Refused(f"{length} characters, more than max_chars {self.features.max_chars}")
        return {}, {"prompt": prompt, "answer": answer, "messages": json.dumps(before, ensure_ascii=False) if before else ""}

    def _text(self, row: dict, name: str) -> str:
        field = self.fields.get(name, name)
        text = as_text(field_of(row, field), field)
        if name in self.patterns:
            found = self.patterns[name].search(text)
            if not found or found.group(1) is None:
                raise Refused(f"{name}_pattern finds nothing in field '{field}'")
            text = found.group(1).strip()
        if not text.strip():
            raise Refused(f"the {name} (field '{field}') is empty")
        return text

    def meta(self) -> dict:
        return {"format": "chat"}


def field_of(row: dict, field: str) -> Any:
    """The value of a field, dotted for nested ones. Raises Refused when it is missing."""
    value = look_up(row, field, MISSING)
    if value is MISSING:
        raise Refused(f"field '{field}' is missing; the row has {', '.join(map(str, list(row)[:8])) or 'no fields'}")
    return value


def as_text(value: Any, field: str) -> str:
    """A field's value as text: strings as they are, objects and lists as compact JSON. Raises Refused for anything else."""
    if isinstance(value, dict | list):
        try:
            value = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        except ValueError:
            raise Refused(f"field '{field}' holds a number too large for JSON's readers") from None
    if not isinstance(value, str):
        raise Refused(f"field '{field}' is not text but {'null' if value is None else type(value).__name__}")
    if "\0" in value:
        raise Refused(f"field '{field}' holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(f"field '{field}' holds half of a surrogate pair, which is not text") from None
    return value


def _parse(blob: bytes) -> Any:
    try:
        return DECODER.decode(bytes(blob).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Refused("not UTF-8 text") from None
    except RecursionError:
        raise Refused("not usable JSON: nested too deeply") from None
    except ValueError as error:
        raise Refused(f"not JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is Python's word, not JSON's")


# Made once: json.loads and json.dumps with arguments make one a row.
DECODER = json.JSONDecoder(parse_constant=_no_constant)
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _compile(name: str, pattern: str) -> re.Pattern:
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"{name} is not a regular expression: {error}") from None
    if compiled.groups < 1:
        raise ValueError(f"{name} needs a group in parentheses: its text is taken")
    return compiled


def _conversation(turns: Any, field: str) -> tuple[list[dict], str, str]:
    """The turns before the last question, that question, and its answer."""
    if not isinstance(turns, list):
        raise Refused(f"field '{field}' is not a list of messages")
    out = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise Refused(f"field '{field}' holds a message that is not an object")
        role = turn.get("role", turn.get("from"))
        if role not in ROLES:
            raise Refused(f"field '{field}' holds a message with the role {role!r}")
        out.append({"role": ROLES[role], "content": as_text(turn.get("content", turn.get("value")), field)})
    while out and out[-1]["role"] != "assistant":
        out.pop()
    if len(out) < 2 or out[-2]["role"] != "user" or not out[-1]["content"].strip() or not out[-2]["content"].strip():
        raise Refused(f"field '{field}' holds no answer of an assistant to a user")
    return out[:-2], out[-2]["content"], out[-1]["content"]


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

    def add(self, fixed: dict[str, np.ndarray], ragged: dict[str, Any]) -> None:
        """Texts are written; tensors that other formats carry (labels, folds) have no place here."""
        row = {name: ragged[name] for name in ("id", "group", "prompt", "answer")}
        if ragged.get("messages"):
            row["messages"] = ragged["messages"]
        try:
            line = ENCODER.encode(row).encode()
        except UnicodeEncodeError:  # a file name that is not UTF-8, in the id
            line = json.dumps(row, separators=(",", ":")).encode()
        self._lines().append(line + b"\n")
        self.length += 1

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
