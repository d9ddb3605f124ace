"""Columns of a parquet file as sequences that hold a few blocks of their rows, whatever the file's size."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

BLOCK = 512  # rows that are made into Python objects at once
BLOCKS, GROUPS = 8, 2  # blocks and row groups (as Arrow has them) that are kept: those used last


class Column(Sequence):
    """One column. Rows that lie near each other are read together, so it is made for going through in order, with looks aside."""

    def __init__(self, file: Any, name: str):
        """`file`: an open pyarrow ParquetFile."""
        self._file, self._name = file, name
        self._starts = [0]
        for group in range(file.metadata.num_row_groups):
            self._starts.append(self._starts[-1] + file.metadata.row_group(group).num_rows)
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._blocks: OrderedDict[tuple[int, int], list[Any]] = OrderedDict()
        self._first, self._values = 0, list[Any]()  # the block that was used last: its first row and its values

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, i: int) -> Any: ...
    @overload
    def __getitem__(self, i: slice) -> list[Any]: ...
    def __getitem__(self, i: int | slice) -> Any:
        if isinstance(i, slice):
            return self.take(range(*i.indices(len(self))))
        at = i - self._first
        if not 0 <= at < len(self._values):
            i = range(len(self))[i]
            self._turn_to(i)
            at = i - self._first
        return self._values[at]

    def take(self, rows: Iterable[int]) -> list[Any]:
        """The values of some rows, none counted from the end."""
        first, values, out = self._first, self._values, []
        for i in rows:
            if not 0 <= i - first < len(values):
                self._turn_to(i)
                first, values = self._first, self._values
            out.append(values[i - first])
        return out

    def __iter__(self) -> Iterator[Any]:
        for group in range(len(self._starts) - 1):
            values = self._group(group)
            for at in range(0, len(values), BLOCK):
                yield from values.slice(at, BLOCK).to_pylist()

    def _turn_to(self, i: int) -> None:
        group = bisect_right(self._starts, i) - 1
        number = (i - self._starts[group]) // BLOCK
        self._first = self._starts[group] + number * BLOCK
        if (group, number) not in self._blocks:
            self._blocks[group, number] = self._group(group).slice(number * BLOCK, BLOCK).to_pylist()
            if len(self._blocks) > BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end((group, number))
        self._values = self._blocks[group, number]

    def _group(self, group: int) -> Any:
        if group not in self._groups:
            self._groups[group] = self._file.read_row_group(group, columns=[self._name], use_threads=False).column(0)
            if len(self._groups) > GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return self._groups[group]


class Coded(Sequence):
    """Texts of which few are different: a byte for each."""

    def __init__(self, text: str = "", count: int = 0) -> None:
        """`count` times a text."""
        self._codes, self._names, self._numbers = bytearray(count), [text], {text: 0}

    def extend(self, texts: Sequence[str]) -> None:
        """Raises ValueError for more than 256 different texts."""
        for text in set(texts):
            self._number(text)
        self._codes.extend(map(self._numbers.__getitem__, texts))

    def put(self, rows: np.ndarray, texts: Sequence[str], which: np.ndarray) -> None:
        """At `rows` (n,) the texts whose numbers are `which` (n,)."""
        np.frombuffer(self._codes, np.uint8)[rows] = np.array([self._number(text) for text in texts], np.uint8)[which]

    def are(self, text: str) -> np.ndarray:
        """Where this text is, (n,) bool."""
        return np.frombuffer(bytes(self._codes), np.uint8) == self._numbers.get(text, 256)

    def __setitem__(self, i: int, text: str) -> None:
        self._codes[i] = self._number(text)

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        return [self._names[k] for k in self._codes[i]] if isinstance(i, slice) else self._names[self._codes[i]]

    def __iter__(self) -> Iterator[str]:
        return map(self._names.__getitem__, self._codes)

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self._names)
            self._names.append(text)
        return self._numbers[text]
