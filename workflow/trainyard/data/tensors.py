"""Safetensors files: the one reader of their headers, which believes no claim it has not checked, and their bytes in order.

Format: https://huggingface.co/docs/safetensors (8 bytes of header length, a JSON header, data without holes).
"""

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAX_HEADER = 100_000_000  # bytes, the library's own limit
# Those that numpy can hold; a bfloat16 comes as the uint16 of its bits.
DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_, "C64": np.complex64,
}  # fmt: skip
BITS = {name: 8 * np.dtype(kind).itemsize for name, kind in DTYPES.items()}
BITS |= {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
# What other files begin with: a wrong name is told by what the file is.
MAGIC = {
    b"\x80": "a pickle, which could run any code", b"PK": "a zip archive (an old torch.save, an .npz), which may hold pickles",
    b"\x93NUMPY": "a numpy array", b"\x1f\x8b": "a gzip archive", b"\x89HDF": "an HDF5 file", b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a git-lfs pointer: fetch the file itself with `git lfs pull`",
}  # fmt: skip


class TensorFileError(ValueError):
    """A safetensors file that cannot be trusted, with the file and what is wrong."""


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor's numbers are: its type, shape, and bytes in the data part of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorHeader:
    """A header in which every claim was checked: tensors by name, metadata, and where the data start."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    start: int


def read_header(path: str | os.PathLike) -> TensorHeader:
    """The header of a file. Raises TensorFileError, before any tensor is looked at; OSError when it cannot be read."""
    path = Path(path)
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise TensorFileError(f"{path}: not a regular file")
        return _checked(file, status.st_size, str(path))


def map_tensors(path: str | os.PathLike) -> tuple[TensorHeader, dict[str, np.ndarray]]:
    """The header, and every tensor of a type that numpy knows as an array mapped from the file."""
    header = read_header(path)
    return header, tensors_in(map_data(path, header), header)


def map_data(path: str | os.PathLike, header: TensorHeader) -> np.ndarray:
    """The bytes of all tensors, mapped: what follows the header, to the end of the file."""
    size = max((e.end for e in header.tensors.values()), default=0)
    # A plain array over the map: every view of a memmap object would cost some microseconds.
    return np.asarray(np.memmap(path, np.uint8, "r", header.start, (size,))) if size else np.zeros(0, np.uint8)


def tensors_in(data: np.ndarray, header: TensorHeader) -> dict[str, np.ndarray]:
    """Every tensor of a type that numpy knows, as a view."""
    return {n: data[e.start : e.end].view(DTYPES[e.dtype]).reshape(e.shape) for n, e in header.tensors.items() if e.dtype in DTYPES}


def refuse_unsafe_weights(folder: str | os.PathLike) -> None:
    """Raise TensorFileError unless the weights of a folder are whole safetensors files; pickles are never opened."""
    folder = Path(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = next((f for f in sorted(folder.iterdir()) if f.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")), None)
        danger = f"only {pickled.name}, a pickle, which could run any code; save it as safetensors" if pickled else "no .safetensors file"
        raise TensorFileError(f"{folder}: {danger}")
    for file in files:
        read_header(file)


def header_bytes(fields: Sequence[tuple[str, str, tuple[int, ...], int]], metadata: Mapping[str, str]) -> bytes:
    """What a file begins with whose data are these fields end to end: name, dtype, shape and bytes of each."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for name, dtype, shape, size in fields:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    return _framed(header)


def ordered(data: bytes) -> bytes:
    """A serialised safetensors file with its metadata in order: the library writes them in a random one."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    if "__metadata__" in header:
        header = {"__metadata__": dict(sorted(header["__metadata__"].items())), **{k: v for k, v in header.items() if k != "__metadata__"}}
    return _framed(header) + data[start:]


def _framed(header: dict[str, Any]) -> bytes:
    """The header with its length before it, padded so that the data begin at a multiple of eight."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe would wait for a writer for ever


def _checked(file: BinaryIO, size: int, path: str) -> TensorHeader:
    head = file.read(32)
    length = int.from_bytes(head[:8], "little")
    if size < 8 or length > min(size - 8, MAX_HEADER):
        other = next((words for magic, words in MAGIC.items() if head.startswith(magic)), None)
        claim = f"it is {other}" if other else f"its header claims {length} bytes, the file has {size}"
        raise TensorFileError(f"{path}: not a whole safetensors file: {claim}")
    file.seek(8)
    start, text = 8 + length, file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"{path}: its header is not JSON: {str(error)[:200]}") from None
    if not isinstance(header, dict) or not text.startswith(b"{"):
        raise TensorFileError(f"{path}: its header is not a JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise TensorFileError(f"{path}: its metadata is not a table of texts")
    tensors = {name: _entry(name, entry, path) for name, entry in header.items()}
    _check_places(tensors, size - start, path)
    return TensorHeader(tensors, metadata, start)


def _entry(name: str, entry: Any, path: str) -> TensorEntry:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        known = dtype in BITS and isinstance(shape, list) and all(type(n) is int and n >= 0 for n in (*shape, start, end))
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise TensorFileError(f"{path}: tensor '{name[:80]}' is described in a way this program does not know: {str(entry)[:80]}")
    found = TensorEntry(dtype, tuple(shape), start, end)
    if 8 * (end - start) != found.count * BITS[dtype]:
        raise TensorFileError(f"{path}: tensor '{name[:80]}' has another size than its shape")
    return found


def _check_places(tensors: dict[str, TensorEntry], size: int, path: str) -> None:
    """That the tensors lie end to end and fill the file: nothing is shared, nothing is hidden between or behind them."""
    at = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.end > size:
            raise TensorFileError(f"{path}: tensor '{name[:80]}' lies outside the file (is it truncated?)")
        if entry.start != at:
            what = "shares bytes with another tensor" if entry.start < at else "has bytes before it that belong to none"
            raise TensorFileError(f"{path}: tensor '{name[:80]}' {what}")
        at = entry.end
    if at != size:
        raise TensorFileError(f"{path}: {size - at} bytes behind its last tensor belong to none; download or save it again")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
