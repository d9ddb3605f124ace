"""A safetensors file written tensor by tensor: its header is known before the numbers are."""

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainyard.data.tensors import DTYPES


class TensorWriter:
    """`with TensorWriter(path, [(name, type, shape), …], metadata) as w: w.write(array)`, in that order, arrays as stored."""

    def __init__(self, path: Path, entries: Sequence[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str]):
        header: dict = {"__metadata__": {**dict(sorted(metadata.items())), "format": "pt"}}
        at = 0
        for name, kind, shape in entries:
            end = at + math.prod(shape) * np.dtype(DTYPES[kind]).itemsize
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
            at = end
        text = json.dumps(header, separators=(",", ":")).encode()
        self._head = struct.pack("<Q", len(text) + -len(text) % 8) + text + b" " * (-len(text) % 8)
        self._path, self._left = path, at

    def __enter__(self):
        self._file = open(self._path, "wb")
        self._file.write(self._head)
        return self

    def write(self, values: np.ndarray) -> None:
        self._left -= self._file.write(np.ascontiguousarray(values).data.cast("B"))

    def __exit__(self, kind, *_):
        self._file.close()
        if kind is None and self._left:
            raise AssertionError(f"{self._path}: {self._left} bytes fewer written than its header says")
