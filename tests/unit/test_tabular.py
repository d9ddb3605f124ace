"""Tables: dialects, columns told apart, preparation fitted on training rows alone, the model and its baselines."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainyard.config.features import TabularFeatures
from trainyard.data.generate.patients import DISEASES, generate
from trainyard.data.pack import Pack, PackWriter
from trainyard.data.refused import Refused
from trainyard.data.table_file import BAD_ROW, TableError, table_rows
from trainyard.data.tabular import TabularReader, table_context
from trainyard.data.tabular_prepare import Preparation
from trainyard.data.views import View

SETTINGS = {"label": {"column": "ill"}, "group": {"column": "who"}, "features": {"drop": ["note"], "categorical": ["site"]}}


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def pack_table(table: Path, path: Path, settings: dict) -> Pack:
    context = json.loads(json.dumps(table_context(table, settings)))
    reader = TabularReader(TabularFeatures(), table.parent, context)
    label, group = settings["label"]["column"], settings["group"]["column"]
    rows = list(table_rows(table))
    classes = sorted({r[label] for r in rows})
    with PackWriter(path, {"format": "tabular", "classes": classes, **reader.meta()}) as writer:
        for i, row in enumerate(rows):
            fixed, ragged = reader.read([], {"extra": row})
            writer.add({**fixed, "label": np.int64(classes.index(row[label]))}, {**ragged, "id": f"t#{i}", "group": row[group]})
    return Pack(path)


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> Pack:
    folder = tmp_path_factory.mktemp("als")
    generate(folder, 0, disease="als", patients=150)
    settings = {"label": {"column": "diagnosis"}, "group": {"column": "patient_id"}}
    return pack_table(folder / "patients.csv", folder / "all.safetensors", settings)


PLAIN = "who,age,site,sex,note,ill\nA,61,1,f,x y,yes\nB,,2,m,z,no\nC,70.5,1,f,,yes\n"


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", ";").replace("70.5", "70,5"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.encode("utf-16"),
        PLAIN.replace("x y", '"x, ""y"""'),
        PLAIN.replace("x y", '"x\ny"'),
        PLAIN.replace("B,,", "B,NA,").replace("z", "caf\u00e9").encode("cp1252"),
        *(PLAIN.replace("B,,", f"B,{word},") for word in ("?", "nan", "NULL", "None", "inf", "-")),
    ],
)
def test_every_dialect_reads_the_same(tmp_path, data):
    table = write(tmp_path / "t.csv", data)
    context = table_context(table, SETTINGS)
    assert context["columns"] == ["who", "age", "site", "sex", "note", "ill"]
    assert (context["numeric"], context["categorical"]) == (["age"], {"site": ["1", "2"], "sex": ["f", "m"]})
    reader = TabularReader(TabularFeatures(), tmp_path, context)
    numeric, category = zip(*((f["numeric"], f["category"]) for f, _ in (reader.read([], {"extra": r}) for r in table_rows(table))))
    np.testing.assert_equal(np.stack(numeric), np.array([[61], [np.nan], [70.5]], np.float32))
    np.testing.assert_equal(np.stack(category), np.array([[0, 0], [1, 1], [0, 0]], np.int16))


def test_a_table_without_header_gets_numbered_columns(tmp_path):
    table = write(tmp_path / "t.csv", "63,1,typical,0\n41,0,none,1\n57,1,none,0\n")
    context = table_context(table, {"label": {"column": "column4"}})
    assert context["numeric"] == ["column1", "column2"] and context["categorical"] == {"column3": ["none", "typical"]}
    assert [row["column1"] for row in table_rows(table)] == ["63", "41", "57"]
    years = write(tmp_path / "y.csv", "who,2019,2020,2021\nA,1,2,3\n")
    assert next(table_rows(years)) == {"who": "A", "2019": "1", "2020": "2", "2021": "3"}


def test_row_names_without_a_heading_are_a_column_and_no_feature(tmp_path):
    rows = "".join(f'"{i}",{i * 7 % 11},{"fm"[i % 2]},{i % 3}\n' for i in range(1, 30))
    table = write(tmp_path / "t.csv", '"age","sex","ill"\n' + rows)
    assert next(table_rows(table)) == {"row": "1", "age": "7", "sex": "m", "ill": "1"}
    context = table_context(table, {"label": {"column": "ill"}})
    assert context["numeric"] == ["age"] and "row" in context["ignored"]
    twice = write(tmp_path / "u.csv", '"row","sex","ill"\n' + rows)
    assert next(table_rows(twice)) == {"row name": "1", "row": "7", "sex": "m", "ill": "1"}


@pytest.mark.parametrize("gap", [" ", "   "])
def test_blanks_divide_numbers_and_not_prose(tmp_path, gap):
    table = write(tmp_path / "t.csv", f"{gap}age ill\n" + "".join(f"{gap}{i / 7:.3e}{gap}{i % 2}{gap}\n" for i in range(9)))
    assert list(table_rows(table))[1] == {"age": "1.429e-01", "ill": "1"}
    prose = write(tmp_path / "u.csv", "what was said\nit rains today\nit does not\nso it goes\n")
    assert next(table_rows(prose)) == {"what was said": "it rains today"}


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ("3,2,yes,no\n" + "1,2,3,4,5,6\n" * 3, {}, "first line has 4 cells, all others have 6"),
        ("a title\n" + "1,2,3,4,5,6\n" * 3, {}, "first line has 1 cells, all others have 6"),
        (b"\x1f\x8b\x08\0\0\0", {}, "a gzip archive: unpack it"),
        ("a/b\n1/2\n2/3\n", {"label": {"column": "a/b"}}, "it has one column: is its delimiter"),
        ("a,b,a\n1,2,3\n", {}, "two columns are called 'a' .columns 1 and 3."),
        ("", {}, "empty"),
        (",,\n,,\n", {}, "delimiters only"),
        (b"PK\x03\x04\0\0", {}, "export it as text"),
        ("age,ill\n1,2\n", {"label": {"column": "il"}}, "label.column is 'il'.*did you mean 'ill'"),
        ("age,ill\n1,2\n", {"features": {"drop": ["agee"]}}, "features.drop is 'agee'.*'age'"),
        ("who,ill\nA,1\n", {"label": {"column": "ill"}, "group": {"column": "who"}}, "no column is left"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, data, settings, message):
    with pytest.raises(TableError, match=message):
        table_context(write(tmp_path / "t.csv", data), settings)


def test_identifiers_row_numbers_and_empty_columns_are_no_features(tmp_path):
    lines = ["row,name,empty,age,ill"] + [f"{i},phon_{i:03d},,{(i * 7) % 13},{i % 2}" for i in range(1, 60)]
    context = table_context(write(tmp_path / "t.csv", "\n".join(lines)), {"label": {"column": "ill"}})
    assert context["numeric"] == ["age"] and not context["categorical"]
    assert set(context["ignored"]) == {"row", "name", "empty"} and "identifier" in context["ignored"]["name"]


def test_bad_rows_are_refused_with_the_reason(tmp_path):
    good = "".join(f"A{i},{i * i % 37},f,0\n" for i in range(60))
    table = write(tmp_path / "t.csv", "who,age,sex,ill\n" + good + "B,12o,f,1\nC,3,f\nD,3,f,1,9\nE,,,1\n")
    reader = TabularReader(TabularFeatures(), tmp_path, table_context(table, {"label": {"column": "ill"}, "group": {"column": "who"}}))
    rows = list(table_rows(table))[60:]
    for row, why in zip(
        rows, ("column 'age': '12o' is not a number", "3 cells .* 4 columns", "5 cells .* 4 columns", "every feature .* missing")
    ):
        with pytest.raises(Refused, match=why):
            reader.read([], {"extra": row})
    assert BAD_ROW in rows[1] and rows[1]["ill"] == ""


def test_a_quote_that_is_not_closed_is_said_with_what_it_takes(tmp_path):
    table = write(tmp_path / "t.csv", 'who,age,ill\nA,1,0\nB,"2,1\nC,3,0\nD,4,1\n')
    good, bad = table_rows(table)
    assert BAD_ROW not in good
    assert bad[BAD_ROW] == "2 cells where the table has 3 columns; a quote in it is not closed and takes 3 more lines with it"


def test_many_categories_keep_the_common_ones(tmp_path):
    lines = ["drug,ill"] + [f"d{i % 90 if i > 900 else i % 10},{i % 2}" for i in range(1000)]
    context = table_context(write(tmp_path / "t.csv", "\n".join(lines)), {"label": {"column": "ill"}})
    values = context["categorical"]["drug"]
    assert len(values) == 64 and {f"d{i}" for i in range(10)} < set(values)
    reader = TabularReader(TabularFeatures(), tmp_path, context)
    unseen = reader.read([], {"extra": {"drug": "never seen"}})[0]["category"][0]
    assert values[unseen] == "(other)"


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), max_size=6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=8))
def test_any_text_survives_the_file(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("any") / "t.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["who", "word", "ill"], *([f"p{i}x", *row[1:]] for i, row in enumerate(cells))])
    assert [list(row.values()) for row in table_rows(path)] == [[f"p{i}x", *row[1:]] for i, row in enumerate(cells)]


@pytest.mark.parametrize("disease", DISEASES)
def test_generated_patients(tmp_path, disease):
    generate(tmp_path / "a", 3, disease=disease, patients=200)
    generate(tmp_path / "b", 3, disease=disease, patients=40)
    long, short = ((tmp_path / n / "patients.csv").read_text() for n in "ab")
    assert long.startswith(short), "a larger table begins with the smaller one"
    rows = list(csv.DictReader(long.splitlines()))
    ill = np.array([r["diagnosis"] == DISEASES[disease].classes[1] for r in rows])
    assert 0.35 < ill.mean() < 0.65
    gone = np.array([r[DISEASES[disease].numeric[1][0]] == "" for r in rows])
    assert gone[~ill].mean() > gone[ill].mean() + 0.08, "that it is missing says something"
    context = table_context(tmp_path / "a" / "patients.csv", {"label": {"column": "diagnosis"}, "group": {"column": "patient_id"}})
    assert len(context["numeric"]) == 11 and len(context["categorical"]) == 3 and not context["ignored"]
    assert len({r["patient_id"] for r in rows}) == 200


def test_preparation_looks_at_training_rows_only(patients):
    train = np.arange(0, 200)
    numeric, category = np.array(patients.fixed("numeric")), np.array(patients.fixed("category"))
    preparation = Preparation.fit(patients, train)
    x = preparation.apply(numeric[train], category[train])
    assert x.shape == (200, preparation.width) and np.isfinite(x).all() and np.abs(x).max() <= 6
    assert np.abs(x[:, :11].mean(0)).max() < 0.1 and np.allclose(x[:, :11].std(0), 1, atol=0.1)
    np.testing.assert_array_equal(preparation.median, np.nanmedian(numeric[train].astype(float), axis=0))
    assert preparation.holes.any() and not preparation.holes[0], "visits are never missing, so they have no indicator"
    other = Preparation.fit(patients, np.arange(200, 400))
    assert not np.allclose(other.mean, preparation.mean)
    unknown = preparation.apply(np.full((1, 11), np.nan), np.full((1, 3), -1))
    assert np.isfinite(unknown).all() and unknown[0, -9:].sum() == 0


def test_each_category_keeps_its_own_values_in_any_order_of_columns(tmp_path):
    rows = [(f"w{i}", "ABCDE"[i % 5], "fm"[i % 2], str(i % 3 % 2)) for i in range(30)]
    lines = "\n".join(map(",".join, [("who", "stage", "sex", "ill"), *rows]))
    pack = pack_table(
        write(tmp_path / "t.csv", lines), tmp_path / "all.safetensors", {"label": {"column": "ill"}, "group": {"column": "who"}}
    )
    every = np.arange(30)
    x = Preparation.fit(pack, every).apply(pack.fixed("numeric")[every], pack.fixed("category")[every])
    names = [(name, value) for name, values in pack.meta["categorical"].items() for value in values]
    found = [{names[i] for i in np.flatnonzero(row)} for row in x]
    assert found == [{("stage", stage), ("sex", sex)} for _, stage, sex, _ in rows]


def test_model_prepares_as_its_baselines_do_and_learns(patients):
    import torch
    from trainyard.config.architectures import TabularOptions
    from trainyard.models.layers import sample_seeds
    from trainyard.models.tabular_mlp import TabularMLP

    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = np.arange(300)
    model = TabularMLP.from_pack(TabularOptions(width=32, layers=1, dropout=0.3), patients, rows, {})
    items = model.items(patients, rows)
    batch = model.collate(patients, items, np.arange(len(items)))
    theirs = Preparation.fit(patients, rows).apply(np.array(patients.fixed("numeric")[rows]), np.array(patients.fixed("category")[rows]))
    np.testing.assert_allclose(model.prepare(batch["numeric"], batch["category"]).numpy(), theirs, atol=1e-4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with torch.no_grad():
        first = model.eval().losses(batch).mean().item()
        np.testing.assert_allclose(
            model.losses(batch)[:7].numpy(), model.losses(model.collate(patients, items[:7], None)).numpy(), atol=1e-6
        )
    for _ in range(60):
        with sample_seeds(torch.arange(len(items))):
            model.train().losses(batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        assert model.eval().losses(batch).mean().item() < 0.8 * first
        out = model.predict(batch)["diagnosis"]
    assert out.kind == "class" and np.allclose(np.stack(out.prediction).sum(1), 1, atol=1e-5)


def test_baselines_predict_the_labelled_held_out_rows(patients):
    from sklearn.metrics import roc_auc_score
    from trainyard.baselines.tabular import baselines

    groups = np.array(patients.texts("group"))
    held_names = set(sorted(set(groups))[:40])
    held = np.array([g in held_names for g in groups])
    trivial, simple = baselines({}, View(patients, np.flatnonzero(~held)), View(patients, np.flatnonzero(held)))
    assert (trivial.level, simple.level, simple.name) == ("trivial", "simple", "logistic regression")
    np.testing.assert_array_equal(simple.items[:, 0], np.flatnonzero(held))
    p = np.stack(trivial.parts["diagnosis"].prediction)
    share = np.mean(np.array(patients.fixed("label"))[~held] == 1)
    assert np.ptp(p[:, 1]) == 0 and p[0, 1] == pytest.approx(share, abs=0.01)
    out = simple.parts["diagnosis"]
    target = np.array([t[0] for t in out.target])
    assert roc_auc_score(target, np.stack(out.prediction)[:, 1]) > 0.5


def test_a_model_needs_two_classes(patients):
    from trainyard.config.architectures import TabularOptions
    from trainyard.models.tabular_mlp import TabularMLP

    one = np.flatnonzero(np.array(patients.fixed("label")) == 0)
    with pytest.raises(ValueError, match="needs two classes"):
        TabularMLP.from_pack(TabularOptions(), patients, one, {})
