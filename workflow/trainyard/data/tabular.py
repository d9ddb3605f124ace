"""Tables: which columns are numbers, which are categories, and a row as arrays.

Two passes: `table_context` looks at every row once and settles the columns; `TabularReader` then turns a row into
`numeric` (d,) float32 with NaN where a value is missing and `category` (c,) int16 with -1 where it is. Values are not
imputed or scaled here: that is fitted on training rows alone (data/tabular_prepare.py).
"""

from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.base import nearest
from trainyard.config.features import TabularFeatures
from trainyard.data.cells import MISSING_AMONG_NUMBERS, is_missing, parse_number
from trainyard.data.refused import Refused
from trainyard.data.table_column import OTHER, TableColumn, spelling
from trainyard.data.table_file import BAD_ROW, TableError, open_table


def table_context(path: str | Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a first pass over a table finds out; JSON-ready.

    `settings` are the dataset's: `label.column`, `group.column`, `features.drop`, `features.categorical` and
    `features.missing` are used; the first three are never features. Returns columns (all names), numeric (names),
    categorical {name: values, sorted}, ignored {name: why}, odd {name: what a person should know of it}, decimal ("."
    or ","), missing (spellings) and rows (count). Raises TableError.
    """
    features = settings.get("features") or {}
    label, group = ((settings.get(key) or {}).get("column") for key in ("label", "group"))
    dropped, forced = list(features.get("drop") or ()), list(features.get("categorical") or ())
    with open_table(path) as table:
        named = [("label.column", label), ("group.column", group)]
        for why, name in named + [("features.drop", n) for n in dropped] + [("features.categorical", n) for n in forced]:
            if name is not None and name not in table.columns:
                raise TableError(f"{path}: {why} is '{name}', but the table has no such column{nearest(name, table.columns)}")
        missing = frozenset(spelling(text, table.decimal) for text in features.get("missing") or ())
        found = {name: TableColumn(table.decimal, missing) for name in table.columns if name not in (label, group, *dropped)}
        rows = 0
        for row in table.rows():
            if BAD_ROW not in row:
                rows += 1
                its_label = None if label is None or is_missing(row[label]) else row[label].strip()
                for name, column in found.items():
                    column.add(row[name], its_label)
    context: dict[str, Any] = {"columns": table.columns, "numeric": [], "categorical": {}, "ignored": {}, "odd": {}}
    for name, column in found.items():
        kind, detail = column.judge(name in forced)
        if kind == "numeric":
            context["numeric"].append(name)
        else:
            context[kind][name] = detail
        if (remark := column.remark(kind)) is not None:
            context["odd"][name] = remark
    if not context["numeric"] and not context["categorical"]:
        hint = "; it has one column: is its delimiter another than comma, semicolon, tab, bar or blank?"
        raise TableError(
            f"{path}: no column is left to learn from; ignored: {context['ignored'] or 'none'}{hint if len(table.columns) == 1 else ''}"
        )
    return {**context, "decimal": table.decimal, "missing": sorted(missing), "rows": rows}


class TabularReader:
    """Turns rows into arrays; `context` is what `table_context` returned."""

    def __init__(self, features: TabularFeatures, root: Path, context: dict[str, Any]):
        self.numeric: list[str] = list(context["numeric"])
        # By name: a pack's meta holds them so, and the models take the columns of `category` in that order.
        self.categorical: dict[str, list[str]] = {name: list(values) for name, values in sorted(context["categorical"].items())}
        self.decimal: str = context.get("decimal", ".")
        self._missing = frozenset(context.get("missing") or ())
        self._odd: dict[str, str] = dict(context.get("odd") or {})
        self._ignored: dict[str, str] = dict(context.get("ignored") or {})
        self._codes = {name: {value: i for i, value in enumerate(values)} for name, values in self.categorical.items()}

    @staticmethod
    def files(sample: dict[str, Any]) -> list[str]:
        """A row needs no file of its own."""
        return []

    def read(self, blobs: list[bytes], sample: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray | str]]:
        """`sample["extra"]` is the row. Raises Refused for a row of the wrong length or words among numbers."""
        row = sample["extra"]
        if row.get(BAD_ROW):
            raise Refused(row[BAD_ROW])
        numeric = np.full(len(self.numeric), np.nan, np.float32)
        for i, name in enumerate(self.numeric):
            text = (row.get(name) or "").strip()
            if text.lower() in MISSING_AMONG_NUMBERS or (self._missing and spelling(text, self.decimal) in self._missing):
                continue
            value = parse_number(text, self.decimal)
            if value is None:
                raise Refused(f"column '{name}': '{text[:40]}' is not a number, as the others are")
            numeric[i] = value
        category = np.full(len(self.categorical), -1, np.int16)
        for i, (name, codes) in enumerate(self._codes.items()):
            text = row.get(name) or ""
            if not is_missing(text) and spelling(text, self.decimal) not in self._missing:
                category[i] = codes.get(spelling(text, self.decimal), codes.get(OTHER, -1))
        if not (np.isfinite(numeric).any() or (category >= 0).any()):
            raise Refused("every feature of this row is missing")
        return {"numeric": numeric, "category": category}, {}

    def meta(self) -> dict[str, Any]:
        return {"numeric": self.numeric, "categorical": self.categorical, "ignored": self._ignored, "odd": self._odd}
