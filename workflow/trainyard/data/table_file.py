"""Reading a table as text, whatever wrote it: byte order marks, UTF-16, old code pages, comma, semicolon, tab, bar or blanks,
decimal commas, no header, row names without a heading (as R writes them), trailing delimiters, rows of the wrong length."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

from trainyard.data.cells import MISSING_AMONG_NUMBERS, decimal_mark, is_missing, parse_number
from trainyard.data.not_text import what_instead

FILE_NAME = re.compile(r".+\.(wav|flac|ogg|opus|mp3|m4a|aiff?|midi?|npz|npy|jsonl?)", re.IGNORECASE)
YEAR = re.compile(r"(19|20)\d\d")
ROW_NAMES = ("row", "row name", "name of the row")  # what a column of row names is called that has no heading
FIRST_ROWS = 50  # that show whether the first line is their header
BAD_ROW = ""  # key under which a row says what is wrong with it as a whole


class TableError(ValueError):
    """A table that cannot be read, with the file and what to do."""


def table_rows(path: str | Path) -> Iterator[dict[str, str]]:
    """The rows of a table, in order, as {column: text}; blank lines are skipped.

    A row with more or fewer cells than there are columns also holds BAD_ROW: what is wrong. Raises TableError.
    """
    with open_table(path) as table:
        yield from table.rows()


class Table:
    """An open table: `columns`, `delimiter`, `decimal` ("." or ","), whether it is `headed`, and its rows, once."""

    def __init__(self, path: Path, stream: TextIO):
        self.path = path
        head = stream.read(1 << 16)
        if not head.strip():
            raise TableError(f"{path}: the table is empty")
        if "\0" in head:
            raise TableError(f"{path}: not a text table (it holds zero bytes; export it as CSV)")
        self.delimiter = delimiter = _delimiter(head)
        self.decimal = decimal_mark(_cells(head, delimiter), delimiter)
        stream.seek(0)
        self._cells = csv.reader(stream, delimiter=delimiter, skipinitialspace=delimiter == " ")
        first = next((row for row in self._lines() if any(cell.strip() for cell in row)), None)
        if first is None:
            raise TableError(f"{path}: the table holds delimiters only")
        names = [cell.strip().lstrip("\ufeff") for cell in first]
        self._first = [cells for cells in islice(self._lines(), FIRST_ROWS) if any(cell.strip() for cell in cells)]
        self.headed = headed = not _is_data(names, self.decimal)
        if not headed:
            self._first, names = [first, *self._first], [f"column{i + 1}" for i in range(len(first))]
        self.columns = self._fit(names, headed)
        self._refuse_twins()
        self._headings = self._more_headings(self._first if headed else self._first[1:])
        if self._headings and not headed:
            raise TableError(f"{path}: its first line is no row of the others, the second looks like their header: remove the first")

    def rows(self) -> Iterator[dict[str, str]]:
        width = len(self.columns)
        for number, cells in enumerate(chain(self._first, self._lines())):
            if not any(cell.strip() for cell in cells):
                continue
            row = dict(zip(self.columns, cells))
            if len(cells) < width or any(cell.strip() for cell in cells[width:]):
                row |= dict.fromkeys(self.columns[len(cells) :], "")
                lines = sum(cell.count("\n") for cell in cells)
                quote = f"; a quote in it is not closed and takes {lines} more lines with it" if lines else ""
                row[BAD_ROW] = f"{len(cells)} cells where the table has {width} columns{quote}"
            elif number < self._headings:
                row[BAD_ROW] = "a second line of headings or units: words where the rows below have numbers"
            yield row

    def _fit(self, names: list[str], headed: bool) -> list[str]:
        """A name for each column. Only row names may lack a heading. Raises TableError when the first line fits none of the others."""
        rows = [_filled(cells) for cells in self._first[0 if headed else 1 :]]
        widths = Counter(map(len, rows))
        usual, times = widths.most_common(1)[0] if rows else (0, 0)
        named = len(_filled(names))
        if len(rows) >= 3 and times >= 0.9 * len(rows) and usual > len(names):
            if not headed or usual > named + 1:
                raise TableError(
                    f"{self.path}: its first line has {named} cells, all others have {usual}: it is no header of theirs; "
                    "remove it, or let it name every column"
                )
            if len(widths) == 1:
                return [next(name for name in ROW_NAMES if name not in names), *names]
        # Delimiters at the end of all lines divide nothing; what stands under a name that is empty is a column.
        used = max([named, *(width for width in widths if width <= len(names))])
        if used > 2 and 2 * sum(map(bool, names)) <= used:
            raise TableError(f"{self.path}: its first line names {sum(map(bool, names))} of {used} columns: it is no header; remove it")
        return [name or f"column{i + 1}" for i, name in enumerate(names[:used])]

    def _more_headings(self, rows: list[list[str]]) -> int:
        """How many rows at the beginning are no data: units, types or a second header, with words where the others have numbers."""
        below = [cells for cells in rows[2:] if len(cells) >= len(self.columns)]
        numbers = []
        for i in range(len(self.columns)):
            filled = [cells[i] for cells in below if cells[i].strip().lower() not in MISSING_AMONG_NUMBERS]
            if len(filled) >= 3 and all(parse_number(cell, self.decimal) is not None for cell in filled):
                numbers.append(i)
        count = 0
        for cells in rows[:2]:
            there = [cells[i] for i in numbers if i < len(cells) and cells[i].strip().lower() not in MISSING_AMONG_NUMBERS]
            if any(parse_number(cell, self.decimal) is not None for cell in there) or not (numbers and (there or count)):
                break
            count += 1
        return count

    def _lines(self) -> Iterator[list[str]]:
        try:
            yield from self._cells
        except csv.Error as error:
            raise TableError(f"{self.path}, line {self._cells.line_num}: not a CSV row: {error}") from None

    def _refuse_twins(self) -> None:
        seen: dict[str, int] = {}
        for i, name in enumerate(self.columns, 1):
            if name in seen:
                raise TableError(
                    f"{self.path}: two columns are called '{name}' (columns {seen[name]} and {i}); "
                    "rename one, or add a header line if there is none"
                )
            seen[name] = i


@contextmanager
def open_table(path: str | Path) -> Iterator[Table]:
    """`with open_table(path) as table`. Raises TableError."""
    path = Path(path)
    try:
        file = open(path, encoding=_encoding(path), errors="replace", newline="")  # noqa: SIM115
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        yield Table(path, file)


def _encoding(path: Path) -> str:
    """UTF-16 by its mark; UTF-8 if all of it is; else what spreadsheets of the West write. Raises TableError for what is no text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as file:
        head = file.read(64)
        if (other := what_instead(head)) is not None:
            raise TableError(f"{path}: not a text table but {other}")
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
        file.seek(0)
        try:
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def _filled(cells: list[str]) -> list[str]:
    """The cells without the empty ones at the end."""
    end = next((i for i in range(len(cells), 0, -1) if cells[i - 1].strip()), 0)
    return cells[:end]


def _delimiter(head: str) -> str:
    """The delimiter that divides the first rows most alike, and into most columns; blanks only where they divide numbers."""
    lines = head.splitlines()
    if len(lines) > 1 and not head.endswith(("\n", "\r")):
        lines.pop()  # cut in the middle
    best, score = ",", (0.0, 1)
    for delimiter in ",;\t|":
        try:
            rows = [row for row in csv.reader(io.StringIO("\n".join(lines[:FIRST_ROWS])), delimiter=delimiter) if row]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        alike = sum(len(row) == width for row in rows) / max(len(rows), 1)
        if width > 1 and (alike, width) > score:
            best, score = delimiter, (alike, width)
    return " " if score[1] == 1 and _divided_by_blanks(lines[:FIRST_ROWS]) else best


def _cells(head: str, delimiter: str) -> Iterator[str]:
    """The cells of a head that can be divided."""
    with suppress(csv.Error):
        for row in csv.reader(io.StringIO(head), delimiter=delimiter):
            yield from row


def _divided_by_blanks(lines: list[str]) -> bool:
    """Whether blanks divide all lines into as many cells, and most cells below the first are numbers: prose is no table."""
    rows = [_filled(row) for row in csv.reader(lines, delimiter=" ", skipinitialspace=True)]
    rows = [row for row in rows if row]
    cells = [cell for row in rows[1:] for cell in row]
    numbers = sum(parse_number(cell) is not None or is_missing(cell) for cell in cells)
    return len({len(row) for row in rows[1:]}) == 1 and len(rows[-1]) > 1 and numbers > 0.5 * len(cells)


def _is_data(cells: list[str], decimal: str) -> bool:
    """Whether a first row is not a header: half of its cells are numbers, years aside, or one names a file."""
    filled = [cell for cell in cells if cell]
    if any(FILE_NAME.fullmatch(cell) for cell in filled):
        return True
    numbers = sum(parse_number(cell, decimal) is not None and not YEAR.fullmatch(cell) for cell in filled)
    return bool(filled) and numbers >= 0.5 * len(filled)
