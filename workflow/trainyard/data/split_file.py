"""The file of a division: split, fold, inner and shard of every sample, and its checksum."""

import hashlib
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trainyard.data.arrow import ROW_GROUP, make_table, number_column, open_parquet, text_column
from trainyard.data.columns import Coded
from trainyard.data.errors import DataError
from trainyard.data.files import replacing
from trainyard.data.split import Splits


def write_splits(index: Mapping[str, Sequence], splits: Splits, path: str | os.PathLike) -> None:
    """splits.parquet, atomically, a row group at a time."""
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        writer = None
        for at in range(0, max(1, len(splits.split)), ROW_GROUP):
            part = slice(at, at + ROW_GROUP)
            columns = {
                "id": text_column(index["id"][part]), "split": text_column(splits.split[part]),
                "fold": number_column(splits.fold[part], np.int16), "inner": number_column(splits.inner[part], np.bool_),
                "shard": number_column(splits.shard[part], np.int32),
            }  # fmt: skip
            table = make_table(columns)
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
            writer.write_table(table)
        assert writer is not None
        writer.close()


def read_splits(path: str | os.PathLike, ids: Sequence[str]) -> dict[str, Any]:
    """split, fold, inner and shard of every sample of an index, by its number. Raises DataError when it cannot be read, or is
    of another index."""
    out: dict[str, Any] = {"split": Coded(), "fold": array("i"), "inner": array("b"), "shard": array("i")}
    at = 0
    for batch in open_parquet(path, ("id", *out), "division", "split_dataset.py").iter_batches(ROW_GROUP, use_threads=False):
        if batch["id"].to_pylist() != ids[at : at + len(batch)]:
            at = -1
            break
        at += len(batch)
        for name, values in out.items():
            values.extend(batch[name].to_pylist())
    if at != len(ids):
        raise DataError(f"{path}: does not belong to this index (other samples, or another order); divide again with split_dataset.py")
    return out


def checksum(ids: Sequence[str], splits: Splits) -> str:
    """SHA-256 over id, split, fold, inner and shard of every row: equal wherever the division is, whatever wrote the file."""
    digest = hashlib.sha256()
    for row in zip(ids, splits.split, in_parts(splits.fold), in_parts(splits.inner), in_parts(splits.shard)):
        digest.update(repr(row).encode())
    return digest.hexdigest()


def in_parts(values: np.ndarray) -> Iterator[Any]:
    """The values of an array (n,) as Python's own, made when they are asked for."""
    return (value for at in range(0, len(values), ROW_GROUP) for value in values[at : at + ROW_GROUP].tolist())
