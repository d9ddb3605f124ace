"""One column of a table: whether it holds numbers or categories, and what a person should know of it before training."""

from trainyard.data.cells import MISSING_AMONG_NUMBERS, is_missing, parse_number

OTHER = "(other)"
MAX_CATEGORIES = 64
MAX_DISTINCT = 10_000
NUMERIC_SHARE = 0.95
MIXED_SHARE = 0.3  # of numbers among words, from which on a column was perhaps meant as numbers
CODES = frozenset({-9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0})  # what stands for a missing number in many tables


def spelling(text: str, decimal: str) -> str:
    """One spelling for a category: 1, 1.0 and ' 1 ' are the same."""
    text = text.strip()
    value = parse_number(text, decimal)
    return text if value is None else f"{value:.10g}"


class TableColumn:
    """What is known of a column while its cells pass by; memory is bounded. `missing`: cells that hold nothing, spelled as categories."""

    def __init__(self, decimal: str, missing: frozenset[str] = frozenset()):
        self.decimal, self.missing = decimal, missing
        self.numbers = self.words = self.holes = 0
        self.counts: dict[str, int] = {}
        self.word = ""  # the first one
        self.whole = True  # whether all numbers are whole
        self.counting = True  # whether the numbers so far go n, n + 1, n + 2, …: a row number
        self.tells: dict[str, str] | None = {}  # the label of each value, as long as there is one for each
        self._last: float | None = None

    def add(self, cell: str, label: str | None = None) -> None:
        """The next cell, and its row's label."""
        text = cell.strip()
        if is_missing(text) or (key := spelling(text, self.decimal)) in self.missing:
            self.holes += 1
            return
        value = parse_number(text, self.decimal)
        if value is not None:
            self.numbers += 1
            self.whole &= value.is_integer()
            self.counting &= self._last is None or value == self._last + 1
            self._last = value
        elif text.lower() not in MISSING_AMONG_NUMBERS:
            self.words += 1
            self.word = self.word or text
        else:
            self.holes += 1
        if key in self.counts or len(self.counts) < MAX_DISTINCT:
            self.counts[key] = self.counts.get(key, 0) + 1
        if self.tells is not None and label is not None:
            known = len(self.tells) <= MAX_CATEGORIES and self.tells.setdefault(key, label) == label
            self.tells = self.tells if known else None

    def judge(self, forced: bool) -> tuple[str, list[str] | str]:
        """("numeric", ""), ("categorical", values) or ("ignored", why)."""
        total, distinct = self.numbers + self.words, len(self.counts)
        if not self.counts:
            return "ignored", "no value in any row"
        if not forced and self.numbers and self.numbers >= NUMERIC_SHARE * total:
            return ("ignored", "counts the rows") if self.counting and self.numbers > 20 else ("numeric", "")
        if not forced and distinct > 20 and distinct > 0.5 * total:
            words = f"{distinct} different texts in {total} rows: an identifier or free text"
            return "ignored", f"numbers and words, such as '{self.word[:20]}'" if self._mixed() else words
        if distinct > MAX_CATEGORIES:
            common = sorted(self.counts, key=lambda key: (-self.counts[key], key))[: MAX_CATEGORIES - 1]
            return "categorical", [*sorted(common), OTHER]
        return "categorical", sorted(self.counts)

    def remark(self, kind: str) -> str | None:
        """What is odd about a column that was judged so, in words; None where nothing is."""
        filled = self.numbers + self.words
        if kind == "ignored":
            return None if not self._mixed() else f"not used, though {self.numbers} of {filled} cells are numbers"
        if self.holes > 0.9 * (self.holes + filled):
            return f"missing in {self.holes} of {self.holes + filled} rows"
        if len(self.counts) == 1 and not self.holes:
            return f"always '{next(iter(self.counts))[:20]}'"
        if len(set((self.tells or {}).values())) > 1 and filled >= 5 * len(self.counts):
            return "tells the label by itself"
        if kind == "categorical":
            return f"categories, but {self.numbers} of {filled} cells are numbers" if self._mixed() else None
        if (code := self._code()) is not None:
            return f"{code:g} in {self.counts[f'{code:.10g}']} rows, far from all others: a sign for missing?"
        if self.whole and self.numbers > 50 and len(self.counts) == min(self.numbers, MAX_DISTINCT):
            return "another whole number in every row: an identifier?"
        return None

    def _mixed(self) -> bool:
        return bool(self.words) and self.numbers >= MIXED_SHARE * (self.numbers + self.words) and len(self.counts) > 5

    def _code(self) -> float | None:
        """The lowest or highest number, where it looks like a sign for a missing one."""
        values = sorted(value for key in self.counts if (value := parse_number(key)) is not None)
        if len(values) < 3:
            return None
        if values[0] in CODES and values[0] < 0 <= values[1]:
            return values[0]
        far = values[-1] in CODES and values[-1] > 3 * abs(values[-2]) and self.counts[f"{values[-1]:.10g}"] > 1
        return values[-1] if far else None
