"""Arrow columns from buffers: `pyarrow.array` would import pandas, which costs a command more than its work. And parquet files of them."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainyard.data.errors import DataError

ROW_GROUP = 1 << 14  # rows that a reader by batch holds at once


def text_column(values: Sequence[str | None]) -> Any:
    """A string column (n,); None is null."""
    import pyarrow as pa

    parts = [b"" if v is None else v.encode() for v in values]
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(p) for p in parts], out=offsets[1:])
    valid = np.packbits([v is not None for v in values], bitorder="little")
    buffers = [pa.py_buffer(valid.tobytes()), pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(parts))]
    return pa.Array.from_buffers(pa.large_string(), len(parts), buffers)


def number_column(values: Sequence[int] | np.ndarray, dtype: type[np.generic]) -> Any:
    """A column of integers or booleans (n,)."""
    import pyarrow as pa

    array = np.asarray(values, dtype)
    if dtype is np.bool_:
        return pa.Array.from_buffers(pa.bool_(), len(array), [None, pa.py_buffer(np.packbits(array, bitorder="little").tobytes())])
    return pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), len(array), [None, pa.py_buffer(array.tobytes())])


def list_column(values: Sequence[np.ndarray]) -> Any:
    """A column of lists of float32 (n,), from n arrays of one dimension."""
    import pyarrow as pa

    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(v) for v in values], out=offsets[1:])
    flat = number_column(np.concatenate([*values, np.zeros(0, np.float32)]), np.float32)
    return pa.Array.from_buffers(pa.large_list(pa.float32()), len(values), [None, pa.py_buffer(offsets.tobytes())], children=[flat])


def make_table(columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Any:
    """A table of such columns."""
    import pyarrow as pa

    schema = pa.schema([pa.field(name, column.type) for name, column in columns.items()], metadata=dict(metadata or {}))
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def open_parquet(path: str | os.PathLike, columns: Sequence[str], what: str, maker: str) -> Any:
    """The file as a pyarrow ParquetFile. Raises DataError, with `what` it should be and what makes it, also where a column is missing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        number = getattr(error, "errno", None)  # without one it is what is wrong with its bytes
        words = os.strerror(number) if number else " ".join(str(error).split()).rstrip(".")
        raise DataError(f"{path}: not a readable {what}: {words}; make it with {maker}") from None
    if missing := [c for c in columns if c not in file.schema.names]:
        raise DataError(f"{path}: no {what}: it has no column {', '.join(missing)}; make it with {maker}")
    return file
