"""What the report says of runs that finished, failed, or are still running, and of who beat whom."""

import json
import re

import pytest
from report_fixture import PLAN, Tree, metric
from report_fixture.page import Page, model_named
from trainyard.report import words
from trainyard.report.charts.curves import curves
from trainyard.report.collect import collect
from trainyard.report.markup import coded
from trainyard.report.page import render
from trainyard.report.status_page import status_page
from trainyard.report.views.runs import Difference


def test_verdict_counts_runs_failures_and_who_beat_what(report):
    said = words.verdict(report)
    assert said.startswith("39 of 41 runs finished, 2 failed.")
    assert "17 surely beat their trivial baseline and 16 also the simple one" in said
    assert "1 cannot be told apart from it" in said


def test_failed_rows_show_reason_and_log(report, page):
    assert model_named(report, "groove_predictor").state == "failed"
    rows = " ".join(page.rows)
    for words_of_it in (
        "the loss is nan at step 41",
        "logs/train_model/kmidi/groove_predictor.log",
        "CUDA out of memory at batch 1",
        "logs/train_model/aimedres/parkinsons-fold3.log",
    ):
        assert words_of_it in rows


def test_a_model_with_a_failed_fold_is_gathered_over_the_others(report):
    m = model_named(report, "parkinsons")
    assert (m.states["done"], m.states["failed"], m.state) == (4, 1, "failed")
    own = [s.value for r in m.runs for s in r.scores if s.metric == "auc"]
    assert m.headline.runs == 4 and m.headline.value == pytest.approx(sum(own) / 4)
    assert [r.name[-1] for r in m.runs] == list("12345")
    assert m.headline.n == 4 * 205  # folds are tested on different samples


def test_seeds_share_their_test_samples(report):
    assert model_named(report, "melody_transformer").headline.n == 8123


def test_not_better_is_said_in_plain_words(report, text):
    notes = words.model_notes(model_named(report, "parkinsons"))
    said = next(sentence for kind, sentence in notes if "logistic regression" in sentence)
    assert "is not shown to be better than logistic regression" in said and "difference −0.0" in said
    assert said.replace("'", "&#39;") in text


def test_parts_beside_the_headline_are_not_passed_over(report):
    kinds = {(kind, "constant velocity" in s) for kind, s in words.model_notes(model_named(report, "magvit"))}
    assert ("worse", True) in kinds
    assert any("mono_to_3d" in w and "constant velocity" in w for w in words.warnings(report))


def test_the_merged_adapter_is_no_seventh_shard(report):
    assert len(model_named(report, "housebrain").runs) == 6
    assert model_named(report, "housebrain").headline.value == pytest.approx(0.0735)
    assert model_named(report, "housebrain-merged").headline.value == 0.075


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


def test_verdict_needs_the_interval_to_leave_zero_out():
    assert Difference(0.1, 0.02, 0.2, 0.99).verdict == "better"
    assert Difference(-0.1, -0.2, -0.02, 0.01).verdict == "worse"
    assert Difference(0.1, -0.01, 0.2, 0.97).verdict == "unclear"
    assert Difference(0.1, None, None, 0.98).verdict == "better"
    assert Difference(0.1).verdict == "unknown"


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


def test_only_the_suites_asked_for(results):
    found = collect(results, only=["kmidi"])
    assert [s.name for s in found.suites] == ["kmidi"] and {j.suite for j in found.jobs} <= {"kmidi", ""}


def test_a_mean_over_some_of_the_folds_says_so(report):
    assert words.gathered(model_named(report, "parkinsons")).startswith("4 of 5 folds: mean")
    assert words.gathered(model_named(report, "als")).startswith("5 folds: mean")


def test_the_epoch_that_is_shown_as_kept_is_the_one_whose_weights_are(results):
    path = results / "kmidi/runs/emotion_recognizer/train.json"
    files = [p for p in (path, path.with_name("metrics.json")) if p.exists()]
    before = {p: p.read_text() for p in files}
    try:
        for file in files:
            found = json.loads(before[file])
            found["train_info"]["selected"] = "last"
            file.write_text(json.dumps(found))
        (run,) = model_named(collect(results), "emotion_recognizer").runs
        assert (run.best_epoch, run.kept_epoch, run.history.best) == (18, 20, 20)
    finally:
        for file, text in before.items():
            file.write_text(text)
    (run,) = model_named(collect(results), "emotion_recognizer").runs
    assert run.kept_epoch == run.history.best == 18


def test_curves_of_many_runs_say_how_many_are_drawn(report):
    runs = list(model_named(report, "als").runs)
    assert "12 of 15 runs; epoch" in curves("als", runs * 3, "") and ">5 runs; epoch" in curves("als", runs, "")


def test_backticks_of_an_advice_are_code():
    assert coded("Set `slots` where <b>") == "Set <code>slots</code> where &lt;b&gt;"
