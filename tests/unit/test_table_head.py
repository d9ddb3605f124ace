"""Tables: how their numbers are written, and what stands above their rows."""

from pathlib import Path

import pytest
from trainyard.data.cells import decimal_mark, parse_number
from trainyard.data.table_file import BAD_ROW, TableError, table_rows
from trainyard.data.tabular import table_context


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("1,234", ".", 1234), ("-1,234,567.5", ".", -1234567.5), ("1,23", ".", None), ("1,234,56", ".", None), ("0,123", ".", None),
        ("1.234,5", ",", 1234.5), ("1.234.567", ",", 1234567), ("1.234", ",", 1.234), ("3,14", ",", 3.14), ("1.23,4", ",", None),
        ("1 234", ".", 1234), ("1\u202f234,5", ",", 1234.5), ("1'234.5", ".", 1234.5), ("1'234 567", ".", None), ("030 123", ".", None),
        ("45%", ".", 45), ("4,5 %", ",", 4.5), ("%", ".", None), ("12.10.2020", ",", None), ("$5", ".", None),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(text: str, decimal: str, value: float | None) -> None:
    assert parse_number(text, decimal) == value


@pytest.mark.parametrize(
    ("cells", "delimiter", "mark"),
    [
        (["1,5"], ";", ","), (["1,234"], ";", ","), (["1,234", "2.5"], ";", "."), (["1,234,567"], "\t", "."), (["1.234,50"], "\t", ","),
        (["0,987", "1,234"], ";", ","), (["1,234"], ",", "."), (["1,5"], ",", ","), (["1,2", "3.5"], ",", "."), (["5", "a, b"], ";", "."),
    ],
)  # fmt: skip
def test_the_decimal_mark_is_told_by_all_numbers_of_the_head(cells: list[str], delimiter: str, mark: str) -> None:
    assert decimal_mark(cells, delimiter) == mark


def test_quoted_thousands_and_percents_are_columns_of_numbers(tmp_path: Path) -> None:
    rows = "".join(f'"{1 + i % 9},{100 + i}",{i * 7 % 40}.5%,{i % 2}\n' for i in range(40))
    context = table_context(write(tmp_path / "t.csv", "cost,share,ill\n" + rows), {"label": {"column": "ill"}})
    assert context["numeric"] == ["cost", "share"] and not context["ignored"]


ROWS = "".join(f"{40 + i * 7 % 31},{'fm'[i % 2]},{i * 3 % 17},{i % 2}\n" for i in range(12))


@pytest.mark.parametrize(
    ("more", "count"),
    [("years,text,mmol/l,0/1\n", 1), ("years,,,\n", 1), ("continuous,d,c,d\n,,,class\n", 2), (",f,,1\n", 0), ("?,f,3,1\n", 0)],
)
def test_lines_of_units_below_the_header_are_no_rows(tmp_path: Path, more: str, count: int) -> None:
    table = write(tmp_path / "t.csv", "age,sex,crp,ill\n" + more + ROWS)
    rows = list(table_rows(table))
    assert [i for i, row in enumerate(rows) if BAD_ROW in row] == list(range(count))
    assert all("second line of headings" in row[BAD_ROW] for row in rows[:count])
    assert table_context(table, {"label": {"column": "ill"}})["categorical"] == {"sex": ["f", "m"]}


def test_a_column_without_a_heading_at_the_end_moves_no_other(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "name,age,\n" + "bob,3,x\nann,4,y\neve,5,z\n")
    assert next(table_rows(table)) == {"name": "bob", "age": "3", "column3": "x"}
    padded = write(tmp_path / "u.csv", "name,age,\n" + "bob,3,\nann,4,\neve,5,\n")
    assert next(table_rows(padded)) == {"name": "bob", "age": "3"}


@pytest.mark.parametrize(
    ("above", "words"),
    [
        ("12,3,,\nage,sex,crp,ill\n", "the second looks like their header: remove the first"),
        ("A study of hearts,,,\nage,sex,crp,ill\n", "its first line names 1 of 4 columns: it is no header; remove it"),
        ("# a remark\n# another\nage,sex,crp,ill\n", "its first line has 1 cells, all others have 4"),
    ],
)
def test_what_stands_above_the_header_is_no_header(tmp_path: Path, above: str, words: str) -> None:
    with pytest.raises(TableError, match=words):
        list(table_rows(write(tmp_path / "t.csv", above + ROWS * 3)))
