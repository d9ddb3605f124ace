"""Columns of a table: what a person should know of them, and signs for missing that the user names."""

import json
from pathlib import Path

import numpy as np
from trainyard.config.features import TabularFeatures
from trainyard.data.table_file import table_rows
from trainyard.data.tabular import TabularReader, table_context


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines))
    return path


ODD = {
    "site": ("always '1'", lambda i: 1),
    "rare": ("missing in 57 of 60 rows", lambda i: "x" if i % 20 == 0 else ""),
    "copy": ("tells the label by itself", lambda i: ("healthy", "sick")[i % 2]),
    "crp": ("categories, but 40 of 60 cells are numbers", lambda i: f"<{i % 2 + 1}" if i % 3 == 0 else i % 11),
    "chol": ("-9 in 12 rows, far from all others: a sign for missing?", lambda i: -9 if i % 5 == 0 else 150 + i * 7 % 30),
    "age": ("999 in 3 rows, far from all others: a sign for missing?", lambda i: 999 if i % 20 == 0 else 30 + i * 7 % 40),
    "number": ("another whole number in every row: an identifier?", lambda i: 5000 + i * 37 % 1009),
    "plain": (None, lambda i: i * 7 % 23 / 2),
    "signed": (None, lambda i: i * 7 % 23 - 9),
    "cost": (None, lambda i: 10 + i * 7 % 43),
    "sex": (None, lambda i: "fm"[i // 2 % 2]),
}


def test_what_is_odd_about_a_column_is_found(tmp_path):
    lines = [",".join([*ODD, "ill"])] + [",".join([*(str(make(i)) for _, make in ODD.values()), str(i % 2)]) for i in range(60)]
    context = table_context(write(tmp_path / "t.csv", lines), {"label": {"column": "ill"}})
    assert context["odd"] == {name: words for name, (words, _) in ODD.items() if words is not None}
    assert not context["ignored"]


def test_signs_for_missing_are_the_users_to_name(tmp_path):
    lines = ["age,stage,ill"] + [
        f"{-9 if i % 5 == 0 else i % 37 + 30},{'unknown' if i % 7 == 0 else 'III'[: i % 3 + 1]},{i % 2}" for i in range(60)
    ]
    table = write(tmp_path / "t.csv", lines)
    context = table_context(table, {"label": {"column": "ill"}, "features": {"missing": ["-9.0", "unknown"]}})
    assert context["numeric"] == ["age"] and context["categorical"] == {"stage": ["I", "II", "III"]} and not context["odd"]
    reader = TabularReader(TabularFeatures(), tmp_path, json.loads(json.dumps(context)))
    for i, row in enumerate(table_rows(table)):
        if i % 35:
            fixed = reader.read([], {"extra": row})[0]
            assert np.isnan(fixed["numeric"][0]) == (i % 5 == 0) and (fixed["category"][0] < 0) == (i % 7 == 0)
