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
from collections.abc import Sequence
from typing import Any

from trainyard.config.base import nearest
from trainyard.config.schema import ValueRule
from trainyard.data.errors import DataError
from trainyard.data.names import shorten

Row = dict[str, Any] | None


def find_values(
    rule: ValueRule, what: str, paths: Sequence[str], rows: Sequence[Row], where: str
) -> tuple[list[str | None], list[str | None]]:
    """The value of each sample, and for those without one the reason. `what` is "label" or "group", for messages.

    Raises DataError when the rule finds no value at all.
    """
    if rule.parent is not None:
        values, reason = [_parent(p, rule.parent) for p in paths], f"has no folder {rule.parent} level(s) above it"
    elif rule.column is not None:
        values, reason = [_text((row or {}).get(rule.column)) for row in rows], f"nothing in column '{rule.column}'"
    elif rule.field is not None:
        values, reason = [_text(look_up(row, rule.field)) for row in rows], f"nothing in field '{rule.field}'"
    else:
        values, reason = _by_pattern(rule.pattern or "", paths)
    if rule.pattern is not None and not _on_path(rule):
        expression = re.compile(rule.pattern)
        values, reason = [None if v is None else _match(expression, v) for v in values], f"{reason}, or it does not fit '{rule.pattern}'"
    values = [None if v is None else rule.map.get(v, v) for v in values]
    if paths and not any(v is not None for v in values):
        raise DataError(_none_found(rule, what, paths, rows, where))
    return values, [None if v is not None else f"no {what}: {reason}" for v in values]


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


def _by_pattern(pattern: str, paths: Sequence[str]) -> tuple[list[str | None], str]:
    expression = re.compile(pattern)
    if "/" not in pattern:
        values = [_match(expression, p.rsplit("/", 1)[-1]) for p in paths]
        if any(v is not None for v in values):
            return values, f"the file name does not fit '{pattern}'"
    return [_match(expression, p) for p in paths], f"the path does not fit '{pattern}'"


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


def _none_found(rule: ValueRule, what: str, paths: Sequence[str], rows: Sequence[Row], where: str) -> str:
    example = shorten(paths[0])
    if _on_path(rule) and rule.pattern is not None:
        return f"{where}: {what}.pattern '{rule.pattern}' fits none of the {len(paths)} samples, such as '{example}'; correct the pattern"
    if rule.parent is not None:
        return f"{where}: {what}.parent {rule.parent}: no sample lies that deep, such as '{example}'; give a smaller number"
    key, name = ("column", rule.column) if rule.column is not None else ("field", rule.field)
    row = next((r for r in rows if r), None)
    if row is None:
        return f"{where}: {what}.{key} '{name}': the samples have no rows to look it up in; give the dataset its annotations"
    return f"{where}: {what}.{key} '{name}': no row has a value there{nearest(str(name), [str(k) for k in row][:40])}"
