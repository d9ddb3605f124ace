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
from collections.abc import Sequence
from typing import Any

from trainyard.data.arrow import ROW_GROUP, open_parquet
from trainyard.data.columns import Column
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
    file = _open(path, COLUMNS)
    return {name: Column(file, name) for name in COLUMNS}, json.loads((file.schema_arrow.metadata or {}).get(b"trainyard", b"{}"))


def paths_in(path: str | os.PathLike) -> Any:
    """The different paths of an index, as a pyarrow array of texts. Raises DataError."""
    return _open(path, ("path",)).read(columns=["path"]).column("path").unique()


def _open(path: str | os.PathLike, columns: Sequence[str]) -> Any:
    return open_parquet(path, columns, "index", "index_dataset.py")
