"""The cells of a table: which hold nothing, and which a number, however it is written."""

import math
import re
from collections.abc import Iterable

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "?"})
# Signs that stand for "not measured" among numbers, but may be a category among words ("none", "-").
MISSING_AMONG_NUMBERS = MISSING | {"none", ".", "-", "--", "inf", "-inf", "+inf", "infinity", "-infinity"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
# Digits in threes, divided by a blank of any kind or an apostrophe, or by the mark that is not the decimal one.
THREES = {
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(?:([ \u00a0\u202f'’,])\d{3})(?:\1\d{3})*(\.\d+)?"),
    ",": re.compile(r"[+-]?[1-9]\d{0,2}(?:([ \u00a0\u202f'’])\d{3}(?:\1\d{3})*(,\d+)?|(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})"),
}
BETWEEN_THREES = {mark: str.maketrans({other: "." if other == mark else None for other in " \u00a0\u202f'’,."}) for mark in ".,"}
WITH_COMMA = re.compile(r"[+-]?\d[\d. \u00a0\u202f'’]*,[\d.,]*")
WITH_POINT = re.compile(r"[+-]?\d+\.(\d{1,2}|\d{4,})")


def is_missing(text: str | None) -> bool:
    """Whether a cell holds nothing: empty, NA, N/A, nan, NULL or ?."""
    return text is None or text.strip().lower() in MISSING


def parse_number(text: str, decimal: str = ".") -> float | None:
    """A finite number that float32 can hold, or None. With decimal "," both 3,14 and 3.14 are read; 1,234.5 (or 1.234,5) and 1 234 are
    digits in threes; a percent sign is left out.
    """
    text = text.strip()
    if not NUMBER.fullmatch(text):
        text = text.removesuffix("%").rstrip()
        if decimal == "," and DECIMAL_COMMA.fullmatch(text):
            text = text.replace(",", ".")
        elif THREES[decimal].fullmatch(text):
            text = text.translate(BETWEEN_THREES[decimal])
        elif not NUMBER.fullmatch(text):
            return None
    value = float(text)
    return value if math.isfinite(value) and abs(value) < 3e38 else None


def decimal_mark(cells: Iterable[str], delimiter: str) -> str:
    """Whether "," or "." divides whole numbers from fractions in a table that holds these cells.

    A comma before three digits may do either: then it counts what other numbers say, and after that which is more usual.
    """
    numbers = {cell.strip().removesuffix("%").rstrip() for cell in cells}
    commas = [text for text in numbers if WITH_COMMA.fullmatch(text)]
    if not commas:
        return "."
    points = any(WITH_POINT.fullmatch(text) for text in numbers)
    if not all(THREES["."].fullmatch(text) for text in commas):
        # Quoted among commas, 1,2 may also be a list: only without numbers that have a point it is none.
        return "." if delimiter == "," and points else ","
    return "." if delimiter == "," or points or any(text.count(",") > 1 or "." in text for text in commas) else ","
