"""A pack: one split of a dataset in one safetensors file, read by memory map.

A field is either fixed (an array with a row a sample) or ragged (values of all samples end to end, with
`<name>.offsets`, n + 1 int64). Texts such as `id` and `group` are ragged uint8. The header's `trainyard` entry
holds what is not an array: format, classes, column names, feature options.
Source of the layout: https://huggingface.co/docs/safetensors (8 bytes of header length, JSON header, data).
"""

import json
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.files import replacing
from trainyard.data.growing import GrowingFile, Mark, append_file
from trainyard.data.tensors import DTYPES, header_bytes, map_tensors

NAMES = {np.dtype(kind): name for name, kind in DTYPES.items() if name != "BF16"}
OFFSETS = ".offsets"
OFFSET = struct.Struct("<q")


class PackError(ValueError):
    """A pack that cannot be trusted, with the file and what is wrong."""


class Pack:
    """A split on disk. Arrays are mapped, so opening costs the header alone."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        try:
            header, self._arrays = map_tensors(self.path)
            self.meta: dict[str, Any] = json.loads(header.metadata.get("trainyard", "{}"))
        except ValueError as error:
            raise PackError(str(error)) from None
        self._length = int(self.meta.get("length", 0))

    def __len__(self) -> int:
        return self._length

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def names(self) -> list[str]:
        """Fields, without the offsets of the ragged ones."""
        return [n for n in self._arrays if not n.endswith(OFFSETS)]

    def fixed(self, name: str) -> np.ndarray:
        """A field with a row a sample, shape (n, …), mapped."""
        return self._arrays[name]

    def offsets(self, name: str) -> np.ndarray:
        """Where each sample's values begin in a ragged field, shape (n + 1,), int64."""
        return self._arrays[name + OFFSETS]

    def values(self, name: str) -> np.ndarray:
        """All samples' values of a ragged field end to end, shape (total, …), mapped."""
        return self._arrays[name]

    def at(self, name: str, row: int) -> np.ndarray:
        """One sample's values of a ragged field, shape (length, …)."""
        o = self._arrays[name + OFFSETS]
        return self._arrays[name][o[row] : o[row + 1]]

    def text(self, name: str, row: int) -> str:
        return self.at(name, row).tobytes().decode("utf-8", "replace")

    def texts(self, name: str, rows: Iterable[int] | None = None) -> list[str]:
        return [self.text(name, int(r)) for r in (range(len(self)) if rows is None else rows)]


class PackWriter:
    """Writes a pack sample by sample in bounded memory: a file or two a field, joined and renamed at the end.

    `with PackWriter(path, meta) as w: w.add({"mel": array}, {"notes": array})`: first the fixed fields, then the
    ragged ones. Dtypes and the trailing shape of a field are those of its first sample. Nothing is left behind
    when the block fails, unless `keep`: then the parts stay, and another writer can `resume` behind a `mark` of this one.
    """

    def __init__(self, path: str | os.PathLike, meta: dict[str, Any], keep: bool = False):
        self.path, self.meta, self.length = Path(path), dict(meta), 0
        self._keep, self._finished = keep, False
        self._fields: dict[str, _Field] = {}

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, fixed: dict[str, Any], ragged: dict[str, Any] | None = None) -> int:
        """One sample. Returns the bytes that it takes."""
        size = 0
        for name, value in fixed.items():
            size += self._append(name, np.asarray(value), False)
        for name, value in (ragged or {}).items():
            size += self._append(name, np.frombuffer(value.encode(), np.uint8) if isinstance(value, str) else np.asarray(value), True)
        self.length += 1
        return size

    def add_all(self, samples: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> int:
        return sum(self.add(fixed, ragged) for fixed, ragged in samples)

    def mark(self) -> dict[str, Any]:
        """What `resume` needs to go on behind the last sample, as JSON can hold it; all of it is with the system by then."""
        return {"length": self.length, "fields": {name: field.mark() for name, field in self._fields.items()}}

    def resume(self, mark: dict[str, Any]) -> None:
        """Go on behind a mark. Raises PackError when the parts no longer hold what was written."""
        try:
            for name, described in mark["fields"].items():
                self._fields[name] = _Field(self._part(len(self._fields)), *described)
        except ValueError as error:
            raise PackError(str(error)) from None
        self.length = mark["length"]

    def finish(self) -> None:
        """Join the parts and put the pack into place; the parts stay until the block is left."""
        for field in self._fields.values():
            field.close()
        with replacing(self.path, sync=False) as target:
            self._join(target)
        self._finished = True

    def __exit__(self, kind, *_):
        try:
            if kind is None and not self._finished:
                self.finish()
        finally:
            for field in self._fields.values():
                field.close()
                if kind is None or not self._keep:
                    field.remove()

    def _part(self, number: int) -> Path:
        return self.path.with_name(f".{self.path.name}.{'' if self._keep else f'{os.getpid()}.'}{number}")

    def _append(self, name: str, value: np.ndarray, ragged: bool) -> int:
        if name not in self._fields:
            if self.length:
                raise PackError(f"{self.path}: field '{name}' begins at sample {self.length}, not at the first")
            shape = value.shape[1:] if ragged else value.shape
            self._fields[name] = _Field(self._part(len(self._fields)), value.dtype.str, shape, ragged)
        self._fields[name].append(value)
        return value.nbytes

    def _join(self, target: Path) -> None:
        fields: list[tuple[str, str, tuple[int, ...], int]] = []
        plan: list[Path] = []
        for name, field in sorted(self._fields.items()):
            if field.offsets is not None:
                fields.append((name + OFFSETS, "I64", (self.length + 1,), field.offsets.size))
                plan.append(field.offsets.path)
        # Offsets first, then the widest type: every array starts at a multiple of its item size.
        for name, field in sorted(self._fields.items(), key=lambda kv: (-kv[1].dtype.itemsize, kv[0])):
            count = field.end if field.offsets is not None else self.length
            fields.append((name, NAMES[field.dtype], (count, *field.shape), field.values.size))
            plan.append(field.values.path)
        metadata = {"trainyard": json.dumps({**self.meta, "length": self.length}, sort_keys=True)}
        with open(target, "wb", buffering=0) as out:
            out.write(header_bytes(fields, metadata))
            for part in plan:
                append_file(out.fileno(), part)
            os.fsync(out.fileno())


class _Field:
    """A field while it is written: its values in one file; of a ragged one the offsets, n + 1 int64, in another."""

    def __init__(self, part: Path, dtype: str, shape: Sequence[int], ragged: bool, end: int = 0, marks: Sequence[Mark] = ()):
        """With `marks` (of values and offsets) it goes on behind them. Raises PackError, ValueError."""
        self.dtype, self.shape, self.end = np.dtype(dtype), tuple(shape), end
        if self.dtype not in NAMES:
            raise PackError(f"{part}: arrays of {self.dtype} cannot be packed")
        self.values = GrowingFile(part, marks[0] if marks else None)
        self.offsets: GrowingFile | None = None
        if ragged:
            self.offsets = GrowingFile(part.with_name(f"{part.name}{OFFSETS}"), marks[1] if marks else None)
            if not marks:
                self.offsets.append(OFFSET.pack(0))

    def append(self, value: np.ndarray) -> None:
        shape = value.shape if self.offsets is None else value.shape[1:]
        if shape != self.shape:
            raise PackError(f"{self.values.path}: a sample of shape {value.shape} among samples of {self.shape}")
        self.values.append(np.ascontiguousarray(value, self.dtype).tobytes())
        if self.offsets is not None:
            self.end += len(value)
            self.offsets.append(OFFSET.pack(self.end))

    def mark(self) -> list[Any]:
        ragged = self.offsets is not None
        return [self.dtype.str, list(self.shape), ragged, self.end, [file.mark() for file in self._files()]]

    def close(self) -> None:
        for file in self._files():
            file.close()

    def remove(self) -> None:
        for file in self._files():
            file.path.unlink(missing_ok=True)

    def _files(self) -> list[GrowingFile]:
        return [self.values] if self.offsets is None else [self.values, self.offsets]
