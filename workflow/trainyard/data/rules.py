"""Finding a sample's label and group, as a ValueRule says.

- `pattern`: a pattern with a slash is searched in the path below the root. One without is searched in the file names, so
  that `^(..)` means the first letters of the name; if it fits no file name at all, in the whole paths.
- `parent`: 1 is the folder that holds the file, 2 the one above it.
- `column`: a column of the table, or a key of the row of annotations, exactly as written there.
- `field`: a key of the JSON row; `a.b` looks into `a` when there is no key `a.b`.
A pattern beside parent, column or field takes its part of that value: `{column: name, pattern: "_(S[0-9]+)_"}`.
A sample for which a rule finds nothing is refused: without a label it teaches nothing, without a group it may leak.
"""

import re
from collections.abc import Iterable
from typing import Any

from trainyard.config.base import nearest
from trainyard.config.dataset import ValueRule
from trainyard.data.cells import is_missing
from trainyard.data.errors import DataError
from trainyard.data.names import shorten
from trainyard.data.texts import Texts

Row = dict[str, Any] | None


class ValueFinder:
    """The values of one rule, sample by sample, so that no row has to be kept. `what` is "label" or "group", for messages."""

    def __init__(self, rule: ValueRule, what: str, where: str):
        self.rule, self._what, self._where = rule, what, where
        self._values = Texts()
        self._expression = None if rule.pattern is None else re.compile(rule.pattern)
        self._first: tuple[str, Row] | None = None
        self._row: Row = None
        self._skipped: set[int] = set()
        self._found = False

    def skip(self) -> None:
        """A sample that is refused already: it has no value."""
        self._skipped.add(len(self._values))
        self._values.append(None)

    def add(self, path: str, row: Row) -> None:
        """The next sample."""
        if self._first is None:
            self._first = path, row
        self._row = self._row or row
        self._values.append(self._look(path, row))

    def finish(self, paths: Iterable[str | None]) -> tuple[Texts, dict[int, str]]:
        """The value of each sample, and for those without one the reason. `paths` are those of all samples, again: a pattern
        that fits no file name is searched in them. Raises DataError when the rule finds no value at all."""
        whole = False
        if self._first is not None and not self._found and _on_path(self.rule) and "/" not in (self.rule.pattern or ""):
            whole, self._values = True, Texts()
            for i, path in enumerate(paths):
                looked = _match(self._expression, path or "") if self._expression is not None and i not in self._skipped else None
                self._values.append(self._mapped(looked))
        if self._first is not None and not self._found:
            raise DataError(
                _none_found(self.rule, self._what, self._first[0], len(self._values) - len(self._skipped), self._row, self._where)
            )
        reason = f"no {self._what}: {self._reason(whole)}"
        return self._values, {i: reason for i, value in enumerate(self._values) if value is None and i not in self._skipped}

    def _look(self, path: str, row: Row) -> str | None:
        rule = self.rule
        if _on_path(rule):
            assert self._expression is not None  # the settings ask for one of the four
            return self._mapped(_match(self._expression, path if "/" in (rule.pattern or "") else path.rsplit("/", 1)[-1]))
        if rule.parent is not None:
            value = _parent(path, rule.parent)
        elif rule.column is not None:
            value = _text((row or {}).get(rule.column))
            # NA is the cell of a table that nobody filled in, unless the map gives it a name.
            value = None if is_missing(value) and value not in rule.map else value
        else:
            value = _text(look_up(row, rule.field or ""))
        if value is not None and self._expression is not None:
            value = _match(self._expression, value)
        return self._mapped(value)

    def _mapped(self, value: str | None) -> str | None:
        if value is None:
            return None
        self._found = True
        # Names may hold what JSON and parquet do not take: a lone surrogate from "\ud800" in a JSON string.
        return self.rule.map.get(value, value).encode("utf-8", "backslashreplace").decode()

    def _reason(self, whole: bool) -> str:
        rule = self.rule
        if _on_path(rule):
            return f"the {'path' if whole or '/' in (rule.pattern or '') else 'file name'} does not fit '{rule.pattern}'"
        if rule.parent is not None:
            reason = f"has no folder {rule.parent} level(s) above it"
        else:
            reason = f"nothing in column '{rule.column}'" if rule.column is not None else f"nothing in field '{rule.field}'"
        return reason if rule.pattern is None else f"{reason}, or it does not fit '{rule.pattern}'"


def _on_path(rule: ValueRule) -> bool:
    return rule.parent is None and rule.column is None and rule.field is None


def look_up(row: Row, name: str, missing: Any = None) -> Any:
    """A field of a JSON row by its name, dotted for nested ones (`a.b`, `a.0.b` in lists); `missing` where there is none."""
    if isinstance(row, dict) and name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return missing
    return value


def _match(expression: re.Pattern, text: str) -> str | None:
    found = expression.search(text)
    return found[1] or None if found else None


def _parent(path: str, levels: int) -> str | None:
    parts = path.split("/")
    return parts[-1 - levels] if len(parts) > levels else None


def _text(value: Any) -> str | None:
    """A cell or JSON value as a label: true and false as JSON writes them, 3.0 as 3; nothing for empty and nested ones."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return None if value != value else str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def _none_found(rule: ValueRule, what: str, path: str, count: int, row: Row, where: str) -> str:
    example = shorten(path)
    if _on_path(rule):
        return f"{where}: {what}.pattern '{rule.pattern}' fits none of the {count} samples, such as '{example}'; correct the pattern"
    if rule.parent is not None:
        return f"{where}: {what}.parent {rule.parent}: no sample lies that deep, such as '{example}'; give a smaller number"
    key, name = ("column", rule.column) if rule.column is not None else ("field", rule.field)
    if row is None:
        return f"{where}: {what}.{key} '{name}': the samples have no rows to look it up in; give the dataset its annotations"
    return f"{where}: {what}.{key} '{name}': no row has a value there{nearest(str(name), [str(k) for k in row][:40])}"
