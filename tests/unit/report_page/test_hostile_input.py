"""Names that are markup; inputs that are absent, broken or cut off: the page is whole, and says what could not be read."""

import csv
import json
import re
import shutil

import pytest
from report_fixture import PLAN, Tree, metric
from report_fixture.page import Page, model_named
from trainyard.report import words
from trainyard.report.charts.svg import tag
from trainyard.report.collect import collect
from trainyard.report.page import render
from trainyard.report.status_page import plain, status_page

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def test_hostile_names_reasons_and_paths_stay_text(tmp_path):
    t = Tree(tmp_path)
    t.dataset("aimedres", "als", "tabular", labels=(EVIL, "b"), refused=((EVIL, EVIL), ("caf\udce9.wav", "bad")), notes=(EVIL,))
    folder = "<script>alert(1)<"  # a folder's name cannot hold a slash
    t.run("aimedres", EVIL, folder, "tabular_mlp", [metric(EVIL, "class", "auc", 0.8, 0.5, 0.7, names=(EVIL, EVIL))], notes=(EVIL,))
    t.failed("aimedres", EVIL + "2", EVIL + "2", EVIL, log=EVIL)
    t.json(
        "aimedres/preflight/x.json",
        {"verdict": EVIL, "model": EVIL, "checks": [{"check": EVIL, "value": EVIL, "verdict": EVIL, "advice": EVIL}]},
    )
    t.json(
        "aimedres/merged/m/accepted.json",
        {
            "accepted": EVIL,
            "reason": EVIL,
            "candidates": [{"name": EVIL, "role": EVIL, "figures": {EVIL: 1}, "reason": EVIL}],
            "samples": [
                {"prompt": EVIL, "answer": json.dumps({**PLAN, "rooms": [{**PLAN["rooms"][0], "name": EVIL}]}), "checks": {EVIL: "yes"}}
            ],
        },
    )
    t.finish()
    found = collect(tmp_path)
    text = render(found)
    page = Page(text)
    assert [a for n, a in page.tags if n == "script"] == [{}]  # only our own, at the end
    assert not [n for n, _ in page.tags if n == "img"]
    assert not [k for _, a in page.tags for k in a if k.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>" not in status_page(found) and "<img" not in status_page(found)


@pytest.mark.parametrize(
    "gone",
    [
        "summary.json",
        "*/comparison.json",
        "*/comparison.*",
        "*/runs/*/metrics.json",
        "*/runs/*/[thp]*",
        "*/[dp]*",
        "*/merged/*/accepted.json",
        "*/runs",
    ],
)
def test_any_input_may_be_absent(results, tmp_path, gone):
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    for path in copy.glob(gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = collect(copy)
    page = Page(render(found))
    assert page.unbalanced == [] and found.problems == ()
    assert "groove_predictor" in [m.name for m in found.models] or gone in ("*/comparison.*",)
    assert status_page(found)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"null",
        b'{"metrics": 3, "jobs": {"a": 1}, "splits": [], "checks": "x", "candidates": [[]]}',
        b"\xff\x00\xfe" * 50,
        b"[" * 5000,
    ],
)
def test_broken_files_are_named_and_cost_nothing_else(tmp_path, content):
    t = Tree(tmp_path)
    t.dataset("kmidi", "lakh", "midi", labels=("a", "b"))
    for name in ("good", "bad"):
        t.run("kmidi", name, name, "i3d", [metric("x", "class", "accuracy", 0.9, 0.2, 0.5)])
        t.predictions("kmidi", name, "x", 2)
    t.finish("done")
    for path in (
        "comparison.json",
        "comparison.csv",
        "runs/bad/metrics.json",
        "runs/bad/train.json",
        "runs/bad/history.csv",
        "runs/bad/predictions.parquet",
        "data/lakh/splits.json",
        "packs/lakh/summary.json",
        "packs/lakh/quarantine.csv",
        "packs/lakh/test.safetensors",
    ):
        (tmp_path / "kmidi" / path).write_bytes(content)
    found = collect(tmp_path)
    page = Page(render(found))
    assert page.unbalanced == []
    assert model_named(found, "good").headline.value == 0.9
    assert any("runs/bad" in p for p in found.problems) or content == b"null" or b"jobs" in content
    assert any("could not be read" in w for w in words.warnings(found)) == bool(found.problems)


def test_an_empty_folder_is_an_error_in_words(tmp_path):
    with pytest.raises(ValueError, match="no results here"):
        collect(tmp_path)


def test_comparison_csv_alone_is_enough_for_the_table(results, tmp_path):
    (tmp_path / "kmidi").mkdir()
    shutil.copy(results / "kmidi" / "comparison.csv", tmp_path / "kmidi" / "comparison.csv")
    found = collect(tmp_path)
    with open(tmp_path / "kmidi" / "comparison.csv", newline="") as file:
        assert {m.name for m in found.models} == {row["model"] for row in csv.DictReader(file)}
    assert model_named(found, "emotion_recognizer").headline.vs_simple.verdict == "better"
    assert model_named(found, "groove_predictor").state == "failed"


def test_svg_builder_escapes():
    assert tag("text", "<b>", class_='"x') == '<text class="&#34;x">&lt;b&gt;</text>'


def test_status_page_is_a_table_that_names_cannot_break(report):
    lines = status_page(report).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("| suite"))
    rows = [line for line in lines[head + 2 :] if line.startswith("|")]
    assert len(rows) == len(report.models)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {11}
    assert plain("a|b\n<c> `d`") == "a\\|b &lt;c&gt; \\`d\\`"
