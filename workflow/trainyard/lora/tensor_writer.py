"""A safetensors file written tensor by tensor: its header is known before the numbers are."""

import json
import math
import os
import struct
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trainyard.data.tensors import DTYPES

SYNC = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
FLUSHED = 8 << 20  # bytes after which the disk is given what there is, while the rest is still being computed


class TensorWriter:
    """`with TensorWriter(path, [(name, type, shape), …], metadata) as w: w.write(array)`, in that order, arrays as stored.

    A thread brings them to the disk meanwhile; an error of the disk is raised at the end of the block.
    """

    def __init__(self, path: Path, entries: Sequence[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str]):
        header: dict = {"__metadata__": {**dict(sorted(metadata.items())), "format": "pt"}}
        at = 0
        for name, kind, shape in entries:
            end = at + math.prod(shape) * np.dtype(DTYPES[kind]).itemsize
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
            at = end
        text = json.dumps(header, separators=(",", ":")).encode()
        self._head = struct.pack("<Q", len(text) + -len(text) % 8) + text + b" " * (-len(text) % 8)
        self._path, self._left, self._fresh, self._flushes = path, at, 0, list[Future[None]]()

    def __enter__(self):
        self._file, self._disk = open(self._path, "wb"), ThreadPoolExecutor(1)
        self._file.write(self._head)
        return self

    def write(self, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values).data.cast("B")
        self._left -= self._file.write(data)
        self._fresh += len(data)
        if self._fresh >= FLUSHED:
            self._file.flush()
            self._flushes.append(self._disk.submit(SYNC, self._file.fileno()))
            self._fresh = 0

    def __exit__(self, kind, *_):
        self._disk.shutdown(cancel_futures=kind is not None)
        self._file.close()
        if kind is not None:
            return
        for flush in self._flushes:
            flush.result()
        if self._left:
            raise AssertionError(f"{self._path}: {self._left} bytes fewer written than its header says")
