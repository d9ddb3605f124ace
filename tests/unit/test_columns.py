"""What a copy knows of each sample, in little memory: columns read as they are looked at, texts of a byte each, a set of digests."""

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trainyard.data.columns as columns
import trainyard.data.digests as digests
from hypothesis import given
from hypothesis import strategies as st
from trainyard.data.arrow import ROW_GROUP
from trainyard.data.columns import Coded, Column
from trainyard.data.digests import Digests
from trainyard.data.errors import DataError
from trainyard.data.index_file import COLUMNS, open_index
from trainyard.data.split_file import read_splits


def parquet(path: Path, values: list, rows: int) -> pq.ParquetFile:
    pq.write_table(pa.table({"x": values}), path, row_group_size=rows)
    return pq.ParquetFile(path)


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=40), st.integers(1, 50), st.integers(1, 9), st.data())
def test_a_column_is_what_the_file_holds_in_whatever_order_it_is_asked(tmp_path_factory, values, rows, block, data) -> None:
    values = ["", *values]  # a column of nothing but None has no type
    column = Column(parquet(tmp_path_factory.mktemp("column") / "x.parquet", values, rows), "x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK", block)
        patch.setattr(columns, "BLOCKS", 2)
        for i in data.draw(st.lists(st.integers(-len(values), len(values) - 1), max_size=30)):
            assert column[i] == values[i]
        start, stop = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40))
        assert column[start:stop] == values[start:stop] and list(column) == values and len(column) == len(values)
        with pytest.raises(IndexError):
            column[len(values)]


def test_a_column_holds_a_part_of_its_rows(tmp_path: Path) -> None:
    values = [f"{i:060d}" for i in range(100_000)]
    column = Column(parquet(tmp_path / "x.parquet", values, 1 << 14), "x")
    tracemalloc.start()
    try:
        assert all(a == b for a, b in zip(column, values))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000  # a list of them takes 11 MB
    finally:
        tracemalloc.stop()


@given(st.lists(st.sampled_from([f"s{i}" for i in range(9)]), max_size=200))
def test_few_texts_take_a_byte_each(texts) -> None:
    coded = Coded()
    coded.extend(texts[:50])
    coded.extend(texts[50:])
    assert list(coded) == texts == coded[:] and [coded[i] for i in range(len(coded))] == texts
    which = np.arange(len(texts))[::2]
    coded.put(which, ["x", "y"], np.arange(len(which)) % 2)
    for k, i in enumerate(which.tolist()):
        texts[i] = "xy"[k % 2]
    if texts:
        coded[0] = texts[0] = "z"
    assert list(coded) == texts and coded.are("x").tolist() == [text == "x" for text in texts] and not coded.are("none").any()
    with pytest.raises(ValueError):
        coded.extend([f"other{i}" for i in range(257)])


@given(st.lists(st.sampled_from([bytes([a, b]) * 4 + bytes([c]) * 8 for a in (0, 255) for b in range(3) for c in range(9)]), max_size=80))
def test_digests_are_numbered_as_they_first_come(values) -> None:
    with pytest.MonkeyPatch.context() as patch:  # few slots, so that many begin at the same one and the table grows
        patch.setattr(digests, "SLOTS", 2)
        seen, known = Digests(), dict[bytes, int]()
        for value in values:
            assert seen.add(value) == known.setdefault(value, len(known)) and len(seen) == len(known)


def test_many_digests_take_some_thirty_bytes_each() -> None:
    dice, count = random.Random(1), 50_000
    tracemalloc.start()
    try:
        seen = Digests()
        numbers = [seen.add(dice.randbytes(16)) for _ in range(count)]
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert numbers == list(range(count)) and size - 40 * count < 40 * count  # beside the list of numbers


def test_what_is_no_index_is_said(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no parquet")
    with pytest.raises(DataError, match="x: not a readable index: .*file; make it with index_dataset.py"):
        open_index(tmp_path / "x")
    pq.write_table(pa.table({"id": ["a"], "path": ["a"]}), tmp_path / "y")
    with pytest.raises(DataError, match=f"it has no column {', '.join(COLUMNS[2:])}; make it with index_dataset.py"):
        open_index(tmp_path / "y")


def test_what_is_no_division_or_one_of_another_index_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="x: not a readable division: No such file or directory; make it with split_dataset.py"):
        read_splits(tmp_path / "x", [])
    (tmp_path / "x").write_text("no parquet")
    with pytest.raises(DataError, match="x: not a readable division: .*file; make it with split_dataset.py"):
        read_splits(tmp_path / "x", [])
    pq.write_table(pa.table({"id": ["a"], "path": ["a"]}), tmp_path / "x")
    with pytest.raises(DataError, match="no division: it has no column split, fold, inner, shard"):
        read_splits(tmp_path / "x", ["a"])
    ids = [str(i) for i in range(ROW_GROUP + 2)]
    n = len(ids)
    columns = {"id": ids, "split": ["train"] * n, "fold": [0] * n, "inner": [False] * n, "shard": [0] * n}
    pq.write_table(pa.table(columns), tmp_path / "x", row_group_size=ROW_GROUP)
    assert len(read_splits(tmp_path / "x", ids)["split"]) == n
    for other in (ids[:ROW_GROUP], ids[:-1], [*ids, "more"], ids[::-1]):
        with pytest.raises(DataError, match="does not belong to this index"):
            read_splits(tmp_path / "x", other)
