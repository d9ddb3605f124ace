"""A pack: one split of a dataset in one safetensors file, read by memory map.

A field is either fixed (an array with a row a sample) or ragged (values of all samples end to end, with
`<name>.offsets`, n + 1 int64). Texts such as `id` and `group` are ragged uint8. The header's `trainyard` entry
holds what is not an array: format, classes, column names, feature options.
Source of the layout: https://huggingface.co/docs/safetensors (8 bytes of header length, JSON header, data).
"""

import json
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
NAMES = {np.dtype(v): k for k, v in DTYPES.items()}
MAX_HEADER = 100_000_000
OFFSETS = ".offsets"


class PackError(ValueError):
    """A pack that cannot be trusted, with the file and what is wrong."""


class Pack:
    """A split on disk. Arrays are mapped, so opening costs the header alone."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        header, start = read_header(self.path)
        self.meta: dict[str, Any] = json.loads(header.pop("__metadata__", {}).get("trainyard", "{}"))
        raw = np.memmap(self.path, np.uint8, "r") if self.path.stat().st_size > start else np.zeros(start, np.uint8)
        self._arrays = {}
        for name, entry in header.items():
            a, b = entry["data_offsets"]
            self._arrays[name] = raw[start + a : start + b].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
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


def read_header(path: Path) -> tuple[dict, int]:
    """The header and where the data start, every claim checked against the file. Raises PackError."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(8)
        if len(head) < 8:
            raise PackError(f"{path}: too short for a safetensors file ({size} bytes)")
        (length,) = struct.unpack("<Q", head)
        if length > min(size - 8, MAX_HEADER):
            raise PackError(f"{path}: its header claims {length} bytes, the file has {size}")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise PackError(f"{path}: its header is not JSON: {error}") from None
    start = 8 + length
    if not isinstance(header, dict):
        raise PackError(f"{path}: its header is not a JSON object")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            a, b = (int(x) for x in entry["data_offsets"])
            shape = [int(x) for x in entry["shape"]]
            dtype = DTYPES[entry["dtype"]]
        except (KeyError, TypeError, ValueError):
            raise PackError(f"{path}: tensor '{name}' is described in a way this program does not know") from None
        need = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize if shape else np.dtype(dtype).itemsize
        if min(shape, default=0) < 0 or not 0 <= a <= b <= size - start or b - a != need:
            raise PackError(f"{path}: tensor '{name}' lies outside the file or has another size than its shape")
    return header, start


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
        header: dict[str, Any] = {"__metadata__": {"trainyard": json.dumps({**self.meta, "length": self.length}, sort_keys=True)}}
        at = 0
        plan: list[tuple[str, np.ndarray | Path]] = []
        for name, field in sorted(self._fields.items()):
            if not field.ragged:
                continue
            offsets = np.asarray(field.offsets, np.int64)
            header[name + OFFSETS] = {"dtype": "I64", "shape": [len(offsets)], "data_offsets": [at, at + offsets.nbytes]}
            plan.append((name, offsets))
            at += offsets.nbytes
        # Offsets first, then the widest type: every array starts at a multiple of its item size.
        for name, field in sorted(self._fields.items(), key=lambda kv: (-kv[1].dtype.itemsize, kv[0])):
            count = field.offsets[-1] if field.ragged else self.length
            size = field.part.stat().st_size
            header[name] = {"dtype": NAMES[field.dtype], "shape": [count, *field.shape], "data_offsets": [at, at + size]}
            plan.append((name, field.part))
            at += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(target, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for _, source in plan:
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
