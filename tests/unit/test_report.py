"""The report: what it says of finished, failed and hostile runs, with any of its inputs absent or broken."""

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_fixture import PLAN, Tree, metric, write_results
from trainyard.report import numbers, words
from trainyard.report.charts.gantt import _lanes
from trainyard.report.charts.svg import Scale, tag
from trainyard.report.collect import collect, read_jobs
from trainyard.report.page import render
from trainyard.report.status_page import plain, status_page
from trainyard.report.views.runs import Difference
from trainyard.report.views.whole import Job

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "build_report.py"
VOID = {"meta", "link", "input", "br", "img", "wbr", "hr", "path", "rect", "circle", "line"}


class Page(HTMLParser):
    """Tags with attributes, ids, the text of each table row, and whether every tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.rows: list[str] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name == "tr":
            self.rows.append("")
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.tags.append((name, dict(attributes)))

    def handle_endtag(self, name):
        if name in VOID:
            return
        if not self.open or self.open[-1] != name:
            self.unbalanced.append(f"{name} closes {self.open[-3:]}")
        else:
            self.open.pop()

    def handle_data(self, text):
        if "tr" in self.open:
            self.rows[-1] += " " + text.strip()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("results")
    write_results(root)
    return root


@pytest.fixture(scope="module")
def report(results):
    return collect(results)


@pytest.fixture(scope="module")
def text(report) -> str:
    return render(report)


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def model(report, name):
    return next(m for m in report.models if m.name == name)


# ---- what it says -------------------------------------------------------------------------------------------------
def test_verdict_counts_runs_failures_and_who_beat_what(report):
    said = words.verdict(report)
    assert said.startswith("39 of 41 runs finished, 2 failed.")
    assert "17 surely beat their trivial baseline and 16 also the simple one" in said
    assert "1 cannot be told apart from it" in said


def test_failed_rows_show_reason_and_log(report, page):
    assert model(report, "groove_predictor").state == "failed"
    rows = " ".join(page.rows)
    for words_of_it in (
        "the loss is nan at step 41",
        "logs/train_model/kmidi/groove_predictor.log",
        "CUDA out of memory at batch 1",
        "logs/train_model/aimedres/parkinsons-fold3.log",
    ):
        assert words_of_it in rows


def test_a_model_with_a_failed_fold_is_gathered_over_the_others(report):
    m = model(report, "parkinsons")
    assert (m.states["done"], m.states["failed"], m.state) == (4, 1, "failed")
    own = [s.value for r in m.runs for s in r.scores if s.metric == "auc"]
    assert m.headline.runs == 4 and m.headline.value == pytest.approx(sum(own) / 4)
    assert [r.name[-1] for r in m.runs] == list("12345")
    assert m.headline.n == 4 * 205  # folds are tested on different samples


def test_seeds_share_their_test_samples(report):
    assert model(report, "melody_transformer").headline.n == 8123


def test_not_better_is_said_in_plain_words(report, text):
    notes = words.model_notes(model(report, "parkinsons"))
    said = next(sentence for kind, sentence in notes if "logistic regression" in sentence)
    assert "is not shown to be better than logistic regression" in said and "difference −0.0" in said
    assert said.replace("'", "&#39;") in text


def test_parts_beside_the_headline_are_not_passed_over(report):
    kinds = {(kind, "constant velocity" in s) for kind, s in words.model_notes(model(report, "magvit"))}
    assert ("worse", True) in kinds
    assert any("mono_to_3d" in w and "constant velocity" in w for w in words.warnings(report))


def test_the_merged_adapter_is_no_seventh_shard(report):
    assert len(model(report, "housebrain").runs) == 6
    assert model(report, "housebrain").headline.value == pytest.approx(0.0735)
    assert model(report, "housebrain-merged").headline.value == 0.075


def test_merge_table_names_the_accepted_one_its_limits_and_the_plan(report, page, text):
    merge = report.suites[3].merges[0]
    assert merge.accepted == "average" and [c.name for c in merge.candidates if c.accepted] == ["average"]
    assert [c.role for c in merge.candidates].count("shard") == 6
    assert "3.1e-08 (exact but for rounding)" in text and "0.610 to 0.610" in text
    row = next(r for r in page.rows if "accepted" in r and "average" in r)
    limits = page.rows[page.rows.index(row) + 1]
    assert "answer loss 0.075" in limits and "below 0.5" in limits
    assert merge.samples[0].plan == PLAN and "floor-plan" in text
    assert "cost: budget 300, not 400" in text and "no rooms overlap" in text


def test_what_the_merge_gains_is_sure_only_where_its_interval_says_so(page):
    rows = {name: next(r for r in page.rows if name in r and "[" in r and "surely" in r) for name in ("base", "shard01", "shard02")}
    assert "+1.79 [1.70, 1.90]" in rows["base"] and "surely better" in rows["base"] and "not" not in rows["base"]
    assert "not surely better or worse" in rows["shard01"] and "surely worse" in rows["shard02"]


def test_rows_that_were_too_long_are_shown(tmp_path):
    t = Tree(tmp_path)
    t.run("housebrain", "m", "m-shard01", "lora", [metric("answer", "tokens", "nll", 0.1, 3, 1)])
    path = tmp_path / "housebrain" / "runs" / "m-shard01" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["meta_info"]["report"] = {"rows_too_long": {"shard-01.jsonl": 3}}
    path.write_text(json.dumps(metrics))
    t.finish("done")
    assert "Rows longer than max_length, left out whole: shard-01.jsonl: 3." in render(collect(tmp_path))


def test_unknown_groups_and_refused_files_are_shown(report, text):
    assert any("crescendai: groups of performances are unknown" in w for w in words.warnings(report))
    assert "groups unknown: may leak" in text and "not a MIDI file: no MThd" in text and "My song #3.wav" in text


def test_data_counts(report):
    lakh = next(d for s in report.suites for d in s.datasets if d.name == "lakh")
    assert (lakh.counts, lakh.lost, lakh.duplicates) == ({"train": 160, "validation": 40, "test": 40}, 14, 3)
    plans = next(d for s in report.suites for d in s.datasets if d.name == "plans")
    assert list(plans.shards.values()) == [640] * 6


def test_confusion_pools_folds_and_knows_class_names(report):
    tally = next(t for s in report.suites for t in s.tallies if t.model == "parkinsons")
    assert sum(map(sum, tally.counts)) == 4 * 205 and tally.runs == 4
    assert next(t for s in report.suites for t in s.tallies if t.model == "emotion_recognizer").classes == ("angry", "calm", "happy", "sad")


def test_preflight_that_failed_is_open_and_warned_of(report, text):
    assert "aimedres: preflight of als says fail" in words.warnings(report)
    assert re.search(r'<details class="check" open><summary><span class="state failed">.*?aimedres/als', text, re.DOTALL)


def test_direction_is_marked_in_words(page):
    row = next(r for r in page.rows if "dynamics_" in r and "RMSE" in r)
    assert "lower is better" in row


# ---- the file -----------------------------------------------------------------------------------------------------
def test_nothing_can_be_fetched(page, text):
    for name, attributes in page.tags:
        assert name not in {"iframe", "object", "embed", "base", "form", "audio", "video", "img"}, name
        for key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:,")), (name, key, value)
        assert not [k for k in attributes if k.startswith("on")] and "style" not in attributes, (name, attributes)
    assert "url(" not in text and "@import" not in text and "fetch(" not in text
    policy = next(a["content"] for n, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_markup_is_sound(page):
    assert page.unbalanced == [] and page.open == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert not {a["href"][1:] for n, a in page.tags if n == "a" and a.get("href", "").startswith("#")} - set(ids)


def test_readable_without_sight_of_colour(page):
    assert all(a.get("aria-label") or a.get("aria-hidden") for n, a in page.tags if n == "svg" and "floor-plan" not in a.get("class", ""))
    assert all("scope" in a for n, a in page.tags if n == "th")
    assert len([a for n, a in page.tags if n == "svg"]) > 30


def test_small_enough(text):
    assert len(text.encode()) < 1_000_000


# ---- hostile and absent input -------------------------------------------------------------------------------------
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
    assert model(found, "good").headline.value == 0.9
    assert any("runs/bad" in p for p in found.problems) or content == b"null" or b"jobs" in content
    assert any("could not be read" in w for w in words.warnings(found)) == bool(found.problems)


def test_an_empty_folder_is_an_error_in_words(tmp_path):
    with pytest.raises(ValueError, match="no results here"):
        collect(tmp_path)


def test_only_the_suites_asked_for(results):
    found = collect(results, only=["kmidi"])
    assert [s.name for s in found.suites] == ["kmidi"] and {j.suite for j in found.jobs} <= {"kmidi", ""}


def test_a_running_training_is_shown_with_what_is_left(tmp_path):
    t = Tree(tmp_path / "results")
    t.job("train_model", "kmidi", "slow", 5, "running")
    t.finish("running")
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "kmidi" / "slow").mkdir(parents=True)
    progress = {
        "epoch": 3,
        "epochs": 50,
        "step": 90,
        "steps": 1500,
        "loss": 1.25,
        "samples_per_second": 40.0,
        "eta_low": 600,
        "eta_high": 1200,
        "host": "yard-2",
    }
    (checkpoints / "kmidi" / "slow" / "progress.json").write_text(json.dumps(progress))
    found = collect(tmp_path / "results", checkpoints)
    row = next(r for r in Page(render(found)).rows if r.strip().startswith("kmidi/slow"))
    assert "3 of 50" in row and "10 min to 20 min" in row and "yard-2" in row
    assert "epoch 3 of 50" in status_page(found) and "1 still running" in words.verdict(found)


def test_hundreds_of_runs(tmp_path):
    t = Tree(tmp_path)
    for m in range(25):
        for fold in range(1, 11):
            t.run(
                "aimedres", f"m{m}", f"m{m}-fold{fold}", "tabular_mlp", [metric("x", "class", "auc", 0.7 + m / 125, 0.5, 0.75)], fold=fold
            )
    t.finish("done")
    found = collect(tmp_path)
    assert len(found.runs) == 250 and len(found.models) == 25
    assert len(render(found).encode()) < 2_000_000


# ---- pieces -------------------------------------------------------------------------------------------------------
def test_verdict_needs_the_interval_to_leave_zero_out():
    assert Difference(0.1, 0.02, 0.2, 0.99).verdict == "better"
    assert Difference(-0.1, -0.2, -0.02, 0.01).verdict == "worse"
    assert Difference(0.1, -0.01, 0.2, 0.97).verdict == "unclear"
    assert Difference(0.1, None, None, 0.98).verdict == "better"
    assert Difference(0.1).verdict == "unknown"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.969, "0.969"),
        (0.0132, "0.0132"),
        (82.14, "82.1"),
        (1234.5, "1,234"),
        (-0.0100, "−0.0100"),
        (0, "0.00"),
        (None, "–"),
        (-1e-9, "0.000000"),
    ],
)
def test_numbers_have_three_digits_and_a_true_minus(value, said):
    assert numbers.num(value) == said


def test_certainty_is_never_rounded_to_one():
    assert (
        numbers.percent(1.0) == ">\u00a099.9\u00a0%"
        and numbers.percent(0.0) == "<\u00a00.1\u00a0%"
        and numbers.percent(0.65) == "65\u00a0%"
    )


def test_lanes_never_overlap_and_are_as_few_as_ran_at_once():
    jobs = [Job("r", "s", str(i), "done", True, start, start + 2.0) for i, start in enumerate((0.0, 1.0, 2.0, 3.0, 3.5))]
    lanes = _lanes(jobs)
    assert len(lanes) == 3 and all(a.end <= b.start for lane in lanes for a, b in zip(lane, lane[1:]))


def test_idle_time_between_two_calls_is_cut_out():
    jobs, idle = read_jobs(
        [
            {"rule": "a", "state": "done", "started": "2026-01-25T10:00:00+00:00", "finished": "2026-01-25T10:01:00+00:00"},
            {"rule": "b", "state": "done", "started": "2026-01-26T10:00:00+00:00", "finished": "2026-01-26T10:00:30+00:00"},
            {"rule": "c", "state": "running", "started": "2026-01-26T10:00:00+00:00", "finished": None},
        ]
    )
    assert [j.timed for j in jobs] == [True, True, False]
    assert [(j.rule, j.start, j.end) for j in jobs] == [("a", 0, 60), ("b", 60, 90), ("c", 0, 0)]
    assert idle == ((60, 24 * 3600 - 60),)


def test_ticks_are_round_and_inside():
    values = [v for v, _ in Scale(0.13, 0.97, 0, 100).ticks(4)]
    assert values == pytest.approx([0.25, 0.5, 0.75])
    assert Scale(1, 1, 0, 1).ticks() == []


def test_svg_builder_escapes():
    assert tag("text", "<b>", class_='"x') == '<text class="&#34;x">&lt;b&gt;</text>'


def test_status_page_is_a_table_that_names_cannot_break(report):
    lines = status_page(report).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("| suite"))
    rows = [line for line in lines[head + 2 :] if line.startswith("|")]
    assert len(rows) == len(report.models)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {11}
    assert plain("a|b\n<c> `d`") == "a\\|b &lt;c&gt; \\`d\\`"


# ---- the command --------------------------------------------------------------------------------------------------
def test_command_writes_page_and_status_without_torch(results, tmp_path):
    out, status = tmp_path / "a b" / "index.html", tmp_path / "STATUS.md"
    code = (
        "import sys, runpy, os; sys.argv = sys.argv[1:]; exit_ = os._exit\n"
        "heavy = ('torch', 'matplotlib', 'pandas', 'transformers', 'snakemake')\n"
        "def leave(code): print('HEAVY', [m for m in heavy if m in sys.modules]); sys.stdout.flush(); exit_(code)\n"
        "os._exit = leave; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT), "--results", str(results), "--output", str(out), "--status", str(status), "--partial"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout and "39 of 41 runs finished" in done.stdout
    assert "Partial report" in out.read_text(encoding="utf-8") and "partial" in status.read_text(encoding="utf-8")


def test_command_says_what_is_wrong_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--results", str(tmp_path / "no"), "--output", str(tmp_path / "x.html")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "no such folder" in done.stderr and "Traceback" not in done.stderr


def test_comparison_csv_alone_is_enough_for_the_table(results, tmp_path):
    (tmp_path / "kmidi").mkdir()
    shutil.copy(results / "kmidi" / "comparison.csv", tmp_path / "kmidi" / "comparison.csv")
    found = collect(tmp_path)
    with open(tmp_path / "kmidi" / "comparison.csv", newline="") as file:
        assert {m.name for m in found.models} == {row["model"] for row in csv.DictReader(file)}
    assert model(found, "emotion_recognizer").headline.vs_simple.verdict == "better"
    assert model(found, "groove_predictor").state == "failed"
