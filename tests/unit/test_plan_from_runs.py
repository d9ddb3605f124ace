"""Hours and speeds come from what runs took; the rules follow the plan, and do without it."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from plan_inputs import HOME, jobs_of, machines, train
from trainyard.config.command_line import read_config
from trainyard.dag.follow import Follow
from trainyard.dag.jobs import Jobs
from trainyard.plan.actual import compare, corrected
from trainyard.plan.make import make_plan
from trainyard.plan.tasks import list_tasks


def test_hours_come_from_earlier_runs_then_owners_then_preflight_then_the_limit(tmp_path):
    jobs = jobs_of("suites=kmidi", "scale=full")
    train(tmp_path, "kmidi", "groove_predictor", 0.5, "x", 15)
    tasks = {t.run: t for t in list_tasks(jobs, tmp_path, done=True)}
    assert tasks["groove_predictor"].source == "earlier"
    assert tasks["groove_predictor"].hours == pytest.approx(1.0), "30 epochs now, 15 then"
    assert tasks["melody_transformer"].source == "stated" and tasks["melody_transformer"].hours == 3
    config = read_config(HOME, [], ["suites=kmidi", "scale=full"])
    config["kmidi"] = {"models": {"harmony_predictor": {"hours": None}, "dynamics_engine": {"hours": None}}}
    folder = tmp_path / "kmidi" / "preflight"
    folder.mkdir()
    (folder / "harmony_predictor.json").write_text(json.dumps({"prediction": {"minutes": 15}}))
    tasks = {t.run: t for t in list_tasks(Jobs(config, HOME), tmp_path, done=True)}
    assert (tasks["harmony_predictor"].source, tasks["harmony_predictor"].hours) == ("preflight", 0.25)
    assert tasks["dynamics_engine"].source == "limit"


def test_speeds_are_corrected_by_what_runs_took_and_only_the_rest_is_planned(tmp_path):
    jobs = jobs_of("suites=kmidi", "scale=full")
    described = machines(a={"host": "box-a"}, b={"host": "box-b"})
    first = make_plan(jobs, described, tmp_path, seconds=1)
    assert first["hours"] == pytest.approx(4) and all(r["source"] == "stated" for r in first["runs"])
    (tmp_path / "plan.json").write_text(json.dumps(first))
    done = next(r for r in first["runs"] if r["machine"] == "a")
    epochs = jobs.model("kmidi", done["model"]).epochs
    train(tmp_path, "kmidi", done["run"], 2 * done["hours"], "box-a", epochs)
    second = make_plan(jobs, described, tmp_path, last=tmp_path / "plan.json", seconds=1)
    assert done["run"] not in {r["run"] for r in second["runs"]}
    assert next(m for m in second["machines"] if m["name"] == "a")["speed_correction"] == pytest.approx(0.5)
    assert second["last"][0]["ran_on"] == "a" and second["last"][0]["actual"] == pytest.approx(2 * done["hours"])
    # Planned again in whole: its own hours on its own machine are what they were.
    third = make_plan(jobs, described, tmp_path, last=tmp_path / "plan.json", everything=True, seconds=1)
    mine = next(r for r in third["runs"] if r["run"] == done["run"])
    assert mine["source"] == "earlier" and mine["hours"] == pytest.approx(2 * done["hours"] * (1 if mine["machine"] == "a" else 0.5))


def test_a_run_done_elsewhere_says_nothing_about_the_machine_it_was_planned_on(tmp_path):
    jobs = jobs_of("suites=kmidi", "scale=full")
    described = machines(a={"host": "box-a"}, b={"host": "box-b"})
    plan = make_plan(jobs, described, tmp_path, seconds=1)
    run = plan["runs"][0]
    train(tmp_path, "kmidi", run["run"], 9, "a laptop", run["epochs"])
    compared = compare(plan, tmp_path, described)
    assert compared[0].ran_on == "" and corrected({}, compared) == {}


def test_promoted_runs_are_planned_after_those_they_are_chosen_from(tmp_path):
    jobs = jobs_of("suites=mono_to_3d")
    plan = make_plan(jobs, machines(a={}, b={}), tmp_path, seconds=1)
    ends = {r["run"]: (r["start"], r["end"]) for r in plan["runs"]}
    slots = [name for name in ends if name.startswith("promoted")]
    assert len(slots) == jobs.promote("mono_to_3d").keep
    assert all(ends[s][0] >= max(ends[r.name][1] for r in jobs.candidates("mono_to_3d")) - 1e-9 for s in slots)


def test_a_machine_left_open_is_this_one(tmp_path):
    plan = make_plan(jobs_of("suites=kmidi", "scale=full"), machines(here={"slots": None}), tmp_path, seconds=1)
    assert plan["machines"][0]["slots"] >= 1


def test_rules_follow_the_plan_and_do_without(tmp_path):
    jobs = jobs_of("suites=kmidi", "scale=full")
    path = tmp_path / "plan.json"
    nothing = Follow(jobs, path)
    melody, groove = (SimpleNamespace(suite="kmidi", run=r) for r in ("melody_transformer", "groove_predictor"))
    assert nothing.priority(50) == 50 and nothing.host(melody) is None and nothing.hosts() is None
    path.write_text(json.dumps(make_plan(jobs, machines(here={}), tmp_path, seconds=1)))
    here = Follow(jobs, path)
    assert here.priority(50)(melody) > here.priority(50)(groove) >= 50, "longest first on one machine"
    assert here.priority(20)(SimpleNamespace(suite="kmidi", dataset="lakh")) == here.priority(20)(melody), "and what it waits for"
    assert here.host(melody) is None, "one machine is this one"
    path.write_text(json.dumps(make_plan(jobs, machines(a={}, b={"only": ["groove_predictor"], "speed": 9}), tmp_path, seconds=1)))
    assert Follow(jobs, path).hosts()(groove) == "b"
    path.write_text("{")
    assert Follow(jobs, path).priority(50) == 50, "a broken plan is none"


def test_advice_says_whether_it_is_worth_it_how_many_at_once_and_since_when_the_copy_paid(tmp_path):
    jobs = jobs_of("suites=kmidi", "scale=full")
    job = {"rule": "copy_to_local", "suite": "kmidi", "run": "lakh", "seconds": 600}
    (tmp_path / "summary.json").write_text(json.dumps({"jobs": [job]}))
    big = {"cores": 8, "memory_gb": 64}
    words = " ".join(make_plan(jobs, machines(a=big, b=big), tmp_path, seconds=1)["advice"])
    assert "worth it: a alone would take 8 h, 2.0 times as long" in words
    assert "Runs at once: a, b have room for 8" in words and "the plan has 1" in words
    assert "local copy of lakh took 10 min" in words and "after the first of 110 epochs" in words
    assert "the trainings end between" in words


def test_the_command_prints_the_plan_and_the_owners_own(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HOME / "workflow/scripts/plan_machines.py"), "--machines", str(HOME / "config/examples/machines_music.yaml"),
         "--config", "scale=full", "suites=kmidi", "--results", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 runs on 3 machines: 2 h") and "No plan is shorter" in done.stdout
    assert "the owners' plan, as given: 3 h" in done.stdout
    assert json.loads((tmp_path / "plan.json").read_text())["proven"]
