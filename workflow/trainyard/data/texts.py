"""Many texts in little memory: their bytes in a row and where each ends, 9 bytes beside the text instead of 60 for a Python string."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np


class Texts(Sequence):
    """A sequence of texts that grows; None is a missing one. What comes out is what an Arrow string column holds."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("q", [0])
        self._present = bytearray()

    def append(self, text: str | None) -> None:
        if text is not None:
            self._data += text.encode()
        self._ends.append(len(self._data))
        self._present.append(text is not None)

    @classmethod
    def missing(cls, count: int) -> "Texts":
        """So many missing ones."""
        out = cls()
        out._ends, out._present = array("q", [0]) * (count + 1), bytearray(count)
        return out

    def or_else(self, others: "Texts") -> "Texts":
        """These texts, and those of others where one is missing."""
        if all(self._present):
            return self
        out = Texts()
        for mine, other in zip(self, others):
            out.append(other if mine is None else mine)
        return out

    def __len__(self) -> int:
        return len(self._present)

    @overload
    def __getitem__(self, i: int) -> str | None: ...
    @overload
    def __getitem__(self, i: slice) -> list[str | None]: ...
    def __getitem__(self, i: int | slice) -> str | None | list[str | None]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        return self._data[self._ends[i] : self._ends[i + 1]].decode() if self._present[i] else None

    def __iter__(self) -> Iterator[str | None]:
        return (self[i] for i in range(len(self)))

    def column(self) -> Any:
        """An Arrow string column (n,), without a copy of the texts: append nothing while it lives."""
        import pyarrow as pa

        valid = np.packbits(np.frombuffer(self._present, np.uint8), bitorder="little")
        buffers = [pa.py_buffer(valid.tobytes()), pa.py_buffer(self._ends), pa.py_buffer(self._data)]
        return pa.Array.from_buffers(pa.large_string(), len(self), buffers)
