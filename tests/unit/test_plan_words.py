"""What a person reads of a plan: its lines, its advice, and its part of the report, with what runs took since."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from plan_inputs import HOME, jobs_of, machines, train
from trainyard.config.command_line import read_config
from trainyard.dag.jobs import Jobs
from trainyard.plan.make import make_plan
from trainyard.plan.tasks import list_tasks, measured
from trainyard.plan.words import following, lines
from trainyard.report.collect import collect
from trainyard.report.plan_view import plan_view


def test_hours_of_a_gpu_on_a_machine_without_one_are_a_warning(tmp_path):
    jobs = jobs_of("suites=mono_to_3d", "scale=full")
    words = " ".join(make_plan(jobs, machines(laptop={}, box={"gpus": 1}), tmp_path, seconds=1)["advice"])
    assert "are those of a GPU, and laptop is described without one" in words and "box is described" not in words
    assert "preflight" in words
    assert "those of a GPU" not in " ".join(make_plan(jobs, machines(box={"gpus": 1}), tmp_path, seconds=1)["advice"])
    kmidi = make_plan(jobs_of("suites=kmidi", "scale=full"), machines(laptop={}), tmp_path, seconds=1)
    assert "those of a GPU" not in " ".join(kmidi["advice"]), "these hours are those of four CPU cores"


def test_ranges_are_those_of_the_owners_where_they_give_them(tmp_path):
    tasks = {t.run: t for t in list_tasks(jobs_of("suites=crescendai", "scale=full"), tmp_path)}
    fusion = tasks["fusion"]
    assert (fusion.low * fusion.hours, fusion.high * fusion.hours) == pytest.approx((0.5, 0.67)), "30 to 40 minutes"
    plan = make_plan(jobs_of("suites=crescendai", "scale=full"), machines(colab={"gpus": 1}), tmp_path, seconds=1)
    assert (plan["hours_low"], plan["hours_high"]) == pytest.approx((1.08, 1.5)), "1 to 1.5 hours in all, as its owners say"


def test_the_local_copy_pays_within_the_first_epochs_by_its_owners_figures(tmp_path):
    jobs = jobs_of("suites=crescendai", "scale=full")
    words = " ".join(make_plan(jobs, machines(colab={"gpus": 1}), tmp_path, seconds=1)["advice"])
    # 2 + 1.5 + 2.5 h from the drive, 1.29 h from the copy, which takes 7.5 minutes: 4.71 h less in 15 epochs.
    assert "takes 7.5 min once, by its owners" in words and "3 runs would take 6 h of work instead of 1.3 h" in words
    assert "it pays after 1 of 15 epochs and saves 4.6 h" in words


def test_a_preflight_that_contradicts_the_owners_is_told(tmp_path):
    folder = tmp_path / "kmidi" / "preflight"
    folder.mkdir(parents=True)
    (folder / "melody_transformer.json").write_text(json.dumps({"prediction": {"minutes": 1200}}))
    (folder / "groove_predictor.json").write_text(json.dumps({"prediction": {"minutes": 70}}))
    words = " ".join(make_plan(jobs_of("suites=kmidi", "scale=full"), machines(a={}), tmp_path, seconds=1)["advice"])
    assert "Preflight predicts 20 h for kmidi/melody_transformer where it ran; the suite states 3 h" in words
    assert "groove_predictor" not in words, "70 minutes are within the range of the stated hour"


def test_a_promoted_run_took_what_came_after_its_short_training(tmp_path):
    (tmp_path / "mono_to_3d").mkdir()
    (tmp_path / "mono_to_3d/promotion.json").write_text(json.dumps({"from_epochs": 10, "to_epochs": 50}))
    train(tmp_path, "mono_to_3d", "promoted-1", 5, "x", ended=datetime.now(UTC), meta_info={"report": {"promoted": {}}})
    found = measured(tmp_path, "mono_to_3d", "promoted-1")
    assert found and found.hours == pytest.approx(4) and found.epochs == 40
    slot = next(t for t in list_tasks(jobs_of("suites=mono_to_3d", "scale=full"), tmp_path, done=True) if t.run == "promoted-1")
    assert slot.source == "earlier" and slot.hours == pytest.approx(4)


def test_lines_say_who_ends_last_where_hours_are_from_and_how_it_is_followed(tmp_path):
    plan = make_plan(jobs_of("suites=kmidi", "scale=full"), machines(a={}, b={"price_per_hour": 2}), tmp_path, seconds=1)
    text = "\n".join(lines(plan))
    assert f"{plan['critical']} ends last" in text and "hours from: stated = the suite's file" in text
    assert "What another machine would bring:" in text and "one more like b" in text and "costs" in text
    assert "--config worker=" in following(plan, "plan.json")
    alone = make_plan(jobs_of("suites=kmidi", "scale=full"), machines(a={}), tmp_path, seconds=1)
    assert "ends last" not in "\n".join(lines(alone)) and "worker" not in following(alone, "plan.json")


def test_the_report_shows_where_and_when_runs_ran_and_the_speeds_of_the_next_plan(tmp_path):
    jobs = jobs_of("suites=kmidi", "scale=full")
    plan = make_plan(jobs, machines(a={"host": "box-a"}, b={"host": "box-b"}), tmp_path, seconds=1)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    by_machine = {m: [r for r in plan["runs"] if r["machine"] == m] for m in "ab"}
    now = datetime.now(UTC) + timedelta(hours=1)
    # On a all take twice as long; one of b's runs is done on a third machine.
    for run in by_machine["a"]:
        ended = now + timedelta(hours=2 * (run["start"] + run["hours"]))
        train(tmp_path, "kmidi", run["run"], 2 * run["hours"], "box-a", run["epochs"], ended=ended)
    stray = by_machine["b"][0]
    train(tmp_path, "kmidi", stray["run"], 7, "a laptop", stray["epochs"], ended=now + timedelta(hours=7))
    planned = collect(tmp_path).plan
    assert planned is not None
    assert planned.began[("kmidi", by_machine["a"][0]["run"])] == pytest.approx(0, abs=0.01)
    view = plan_view(planned, ["kmidi"])
    assert view is not None and view.done == len(by_machine["a"]) + 1
    a, b = view.machines
    assert a.next_speed == pytest.approx(0.5) and "2 times the planned hours" in a.words
    assert b.next_speed is None, "what ran elsewhere says nothing about it"
    assert next(r for r in view.rows if r.run.endswith(stray["run"])).elsewhere == "ran on another host"
    assert f"{view.done} of them are done since, within 8.0 h" in view.lead and "Started now" not in " ".join(view.advice)
    # What the report shows is what the next plan is made with.
    again = make_plan(jobs, machines(a={"host": "box-a"}, b={"host": "box-b"}), tmp_path, last=tmp_path / "plan.json", seconds=1)
    assert next(m for m in again["machines"] if m["name"] == "a")["speed_correction"] == pytest.approx(a.next_speed)


def test_a_plan_of_another_form_is_a_problem_and_no_crash(tmp_path):
    (tmp_path / "kmidi").mkdir()
    (tmp_path / "kmidi/comparison.json").write_text("{}")
    for text in ('{"runs": [1]}', "[]", "{", '{"runs": [{"suite": "kmidi"}], "hours": "x"}'):
        (tmp_path / "plan.json").write_text(text)
        report = collect(tmp_path)
        assert report.plan is None and any("plan.json" in p for p in report.problems)


def test_saving_by_steps_lets_a_session_end_within_a_training(tmp_path):
    """The chat model saves every 100 steps and by nothing else: about every five minutes of its nine hours, on 83,333 rows a shard."""
    config = read_config(HOME, [], ["suites=housebrain", "scale=full"])
    config["housebrain"] = {"models": {"housebrain": {"base_model": str(tmp_path)}}}
    jobs = Jobs(config, HOME)
    task = next(t for t in list_tasks(jobs, tmp_path) if t.run == "housebrain-shard01")
    assert task.save_hours == pytest.approx(9 * 100 / (2 * 500_000 / 6 / 16), rel=1e-6)
    folder = tmp_path / "housebrain/data/plans"
    folder.mkdir(parents=True)
    (folder / "splits.json").write_text(json.dumps({"splits": {"train": {"samples": 60_000}}}))
    task = next(t for t in list_tasks(jobs, tmp_path) if t.run == "housebrain-shard01")
    assert task.save_hours == pytest.approx(9 * 100 / (2 * 10_000 / 16), rel=1e-6), "what the split counted comes first"
    colab = {"gpus": 1, "memory_gb": 12.7, "session_hours": 4, "session_gap_hours": 0.5}
    short = {"gpus": 1, "memory_gb": 12.7, "session_hours": 0.5, "session_gap_hours": 0.5, "restart_minutes": 30}
    plan = make_plan(jobs, machines(colab=colab, short=short, cpu={}), tmp_path, seconds=1)
    assert all(len(r["pieces"]) > 1 for r in plan["runs"] if r["machine"] == "colab")
    words = " ".join(plan["advice"])
    assert "Nothing can go to short: housebrain/housebrain-shard01: it stops after 0.5 h" in words and "save more often" in words
    assert "Nothing can go to cpu: housebrain/housebrain-shard01: it needs 1 GPU" in words
    (tmp_path / "plan.json").write_text(json.dumps(plan))
