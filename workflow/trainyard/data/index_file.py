"""The file of an index: a row a sample.

| column | |
|---|---|
| id | unique: the path below the root, or `path#row` |
| path | below the root, as text (see names) |
| row | number of a table's row, byte offset of a JSON row; -1 for whole files |
| size | bytes of the file or row |
| label, group | texts; label is null without a rule; group equals id when groups are unknown |
| extra | the row of annotations or of the table as JSON, or null |
| refused | why the sample cannot be used, or null |
The parquet metadata entry `trainyard` says what the rows cannot: format, whether groups are known, remarks, and size and
time of the files that offsets point into.
"""

import json
import os
from typing import Any

from trainyard.data.arrow import ROW_GROUP, open_parquet
from trainyard.data.columns import Column
from trainyard.data.errors import DataError
from trainyard.data.files import replacing

COLUMNS = ("id", "path", "row", "size", "label", "group", "extra", "refused")


def write_index(table, path: str | os.PathLike) -> None:
    """Write atomically."""
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)


def open_index(path: str | os.PathLike) -> tuple[dict[str, Column], dict[str, Any]]:
    """Columns of an index that are read as they are looked at, so that memory does not grow with the samples, and its metadata. Raises
    DataError."""
    file, schema = _parquet(path)
    return {name: Column(file, name) for name in COLUMNS}, json.loads((schema.metadata or {}).get(b"trainyard", b"{}"))


def _parquet(path: str | os.PathLike) -> tuple[Any, Any]:
    """The file and its schema, which takes long to read where the metadata are long."""
    import pyarrow as pa

    try:
        file = open_parquet(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from None
    schema = file.schema_arrow
    if missing := [c for c in COLUMNS if c not in schema.names]:
        raise DataError(f"{path}: no index: it has no column {', '.join(missing)}; make it with index_dataset.py")
    return file, schema


def _unreadable(path: str | os.PathLike, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable index: {' '.join(str(error).split())}; make it with index_dataset.py")
