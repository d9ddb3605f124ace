"""A pack: one split of a dataset in one safetensors file, read by memory map.

A field is either fixed (an array with a row a sample) or ragged (values of all samples end to end, with
`<name>.offsets`, n + 1 int64). Texts such as `id` and `group` are ragged uint8. The header's `trainyard` entry
holds what is not an array: format, classes, column names, feature options.
Source of the layout: https://huggingface.co/docs/safetensors (8 bytes of header length, JSON header, data).
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.tensors import DTYPES, header_bytes, map_tensors

NAMES = {np.dtype(kind): name for name, kind in DTYPES.items() if name != "BF16"}
OFFSETS = ".offsets"


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
    """Writes a pack sample by sample in bounded memory: a file a field, joined and renamed at the end.

    `with PackWriter(path, meta) as w: w.add({"mel": array}, {"notes": array})`: first the fixed fields, then the
    ragged ones. Dtypes and the trailing shape of a field are those of its first sample. Nothing is left behind
    when the block fails.
    """

    def __init__(self, path: str | os.PathLike, meta: dict[str, Any]):
        self.path, self.meta, self.length = Path(path), dict(meta), 0
        self._fields: dict[str, _Field] = {}

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, fixed: dict[str, np.ndarray], ragged: dict[str, np.ndarray] | None = None) -> None:
        for name, value in fixed.items():
            self._field(name, np.asarray(value), False).append(np.asarray(value))
        for name, value in (ragged or {}).items():
            value = np.frombuffer(value.encode(), np.uint8) if isinstance(value, str) else np.asarray(value)
            self._field(name, value, True).append(value)
        self.length += 1

    def _field(self, name: str, value: np.ndarray, ragged: bool) -> "_Field":
        if name not in self._fields:
            if self.length:
                raise PackError(f"{self.path}: field '{name}' begins at sample {self.length}, not at the first")
            part = self.path.with_name(f".{self.path.name}.{os.getpid()}.{len(self._fields)}")
            self._fields[name] = _Field(part, value.dtype, value.shape[1:] if ragged else value.shape, ragged)
        return self._fields[name]

    def __exit__(self, kind, *_):
        target = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            for field in self._fields.values():
                field.file.close()
            if kind is None:
                self._join(target)
                os.replace(target, self.path)
        finally:
            for field in self._fields.values():
                field.part.unlink(missing_ok=True)
            target.unlink(missing_ok=True)

    def _join(self, target: Path) -> None:
        fields: list[tuple[str, str, tuple[int, ...], int]] = []
        plan: list[np.ndarray | Path] = []
        for name, field in sorted(self._fields.items()):
            if field.ragged:
                offsets = np.asarray(field.offsets, np.int64)
                fields.append((name + OFFSETS, "I64", offsets.shape, offsets.nbytes))
                plan.append(offsets)
        # Offsets first, then the widest type: every array starts at a multiple of its item size.
        for name, field in sorted(self._fields.items(), key=lambda kv: (-kv[1].dtype.itemsize, kv[0])):
            count = field.offsets[-1] if field.ragged else self.length
            fields.append((name, NAMES[field.dtype], (count, *field.shape), field.part.stat().st_size))
            plan.append(field.part)
        metadata = {"trainyard": json.dumps({**self.meta, "length": self.length}, sort_keys=True)}
        with open(target, "wb") as out:
            out.write(header_bytes(fields, metadata))
            for source in plan:
                if isinstance(source, Path):
                    with open(source, "rb") as part:
                        while block := part.read(1 << 22):
                            out.write(block)
                else:
                    out.write(source.tobytes())
            out.flush()
            os.fsync(out.fileno())


class _Field:
    """A field while it is written: its values on disk, its offsets in memory (8 bytes a sample)."""

    def __init__(self, part: Path, dtype: np.dtype, shape: tuple[int, ...], ragged: bool):
        if dtype not in NAMES:
            raise PackError(f"{part}: arrays of {dtype} cannot be packed")
        self.part, self.dtype, self.shape, self.ragged = part, dtype, shape, ragged
        self.file = open(part, "wb")  # noqa: SIM115 - open for the life of the writer, closed by it
        self.offsets = [0]

    def append(self, value: np.ndarray) -> None:
        shape = value.shape[1:] if self.ragged else value.shape
        if shape != self.shape:
            raise PackError(f"{self.part}: a sample of shape {value.shape} among samples of {self.shape}")
        self.file.write(np.ascontiguousarray(value, self.dtype).tobytes())
        if self.ragged:
            self.offsets.append(self.offsets[-1] + len(value))
