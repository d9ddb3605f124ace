"""What a plan says about itself: ends, reasons, prices, other machines."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from plan_inputs import HOME, MUSIC, jobs_of, machines
from trainyard.config.command_line import read_config
from trainyard.config.machines import Machines
from trainyard.dag.follow import Follow
from trainyard.dag.jobs import Jobs
from trainyard.plan.advice import advice
from trainyard.plan.build import build
from trainyard.plan.make import make_plan
from trainyard.plan.problem import Task
from trainyard.plan.solve import find_plan
from trainyard.plan.whatif import one_more_of_each
from trainyard.plan.words import headline, lines
from trainyard.report.collect import collect
from trainyard.report.plan_view import plan_view


def test_a_range_that_a_session_cuts_off_is_told_and_the_report_shows_the_plan(tmp_path):
    described = machines(colab={"session_hours": 4}, here={})
    plan = make_plan(jobs_of("suites=kmidi", "scale=full"), described, tmp_path, seconds=1)
    assert plan["hours"] == pytest.approx(4) and plan["hours_high"] is None
    assert "(2.4 h or more)" in headline(plan) and "at the earliest" in " ".join(plan["advice"])
    (tmp_path / "plan.json").write_text(json.dumps(plan, allow_nan=False))
    (tmp_path / "kmidi").mkdir()
    (tmp_path / "kmidi/comparison.json").write_text("{}")
    view = plan_view(collect(tmp_path).plan, ["kmidi"])
    assert view is not None and "or more)" in view.lead


def test_no_date_is_told_that_no_calendar_has(tmp_path):
    plan = make_plan(jobs_of("suites=kmidi", "scale=full"), machines(a={"speed": 1e-300}), tmp_path, seconds=1)
    assert plan["hours"] > 1e299 and not any("Started now" in line for line in plan["advice"])


def test_a_long_run_that_is_never_saved_keeps_no_other_from_a_machine_that_stops():
    short = [Task("s", f"r{i}", "r", 0.1, save_hours=0.01) for i in range(8)]
    script = Task("s", "script", "script", 2.0, save_hours=2.0)
    stops = {"session_hours": 1, "session_gap_hours": 0.1}
    problem = build([*short, script], machines(a=stops, b={}))
    plan = find_plan(problem)
    assert {s.task for s in plan.schedule.slots if problem.lanes[s.lane].machine == "a"} == set(range(8))
    assert "a" not in problem.refused


def test_a_reason_names_the_run_as_it_is_called_and_the_machine_as_it():
    problem = build([Task("aimedres", "als", "als", 2.0, save_hours=2.0)], machines(a={"session_hours": 1, "session_gap_hours": 0}, b={}))
    assert problem.refused["a"].startswith("aimedres/als: it stops after 1 h, which leaves no time between checkpoints (2 h apart)")


def test_a_run_that_waits_for_the_next_session_starts_in_it():
    tasks = [Task("s", "first", "m", 1.0), Task("s", "second", "n", 1.0)]
    plan = find_plan(build(tasks, machines(a={"session_hours": 1, "session_gap_hours": 3, "restart_minutes": 0})))
    assert [(s.start, s.end) for s in plan.schedule.slots] == [(0, 1), (4, 5)]


@pytest.mark.parametrize("goal", [{"minimise": "cost"}, {"budget": 5}])
def test_a_goal_of_money_needs_a_price(goal):
    with pytest.raises(ValueError, match="needs a price_per_hour"):
        Machines.model_validate({"machines": {"a": {}}, **goal})
    assert Machines.model_validate({"machines": {"a": {"price_per_hour": 1}}, **goal})


def test_one_more_of_a_kind_is_as_fast_as_those_that_there_are_were_found_to_be():
    described = machines(a={})
    plan = find_plan(build(MUSIC, described, {"a": 0.5}))
    (more,) = one_more_of_each(plan, MUSIC, described, 1)
    assert plan.schedule.makespan == pytest.approx(16) and more.hours == pytest.approx(8)


def test_one_machine_alone_takes_what_a_plan_for_it_takes(tmp_path):
    tasks = [Task("s", f"r{i}", "r", 1.0) for i in range(3)]
    plan = find_plan(build(tasks, machines(a={"slots": 2, "memory_gb": 16}, b={})))
    assert any("a alone would take 2 h, 2.0 times as long" in line for line in advice(plan, tmp_path)), "three hours in two slots"


def test_what_a_plan_can_be_shorter_by_is_a_share_of_the_plan(tmp_path):
    plan = make_plan(jobs_of("suites=kmidi", "scale=full"), machines(a={}), tmp_path, seconds=1)
    assert "No plan is more than 50.0 % shorter" in headline(plan | {"proven": False, "gap": 1.0})


def test_with_a_goal_of_cost_a_plan_that_costs_nothing_has_no_loose_comma(tmp_path):
    described = Machines.model_validate({"machines": {"a": {}, "b": {"price_per_hour": 1}}, "minimise": "cost"})
    plan = make_plan(jobs_of("suites=kmidi", "scale=full"), described, tmp_path, seconds=1)
    assert plan["cost"] == 0 and not any(line.rstrip().endswith(",") for line in lines(plan))


def test_a_plan_for_several_machines_that_uses_one_still_says_which(tmp_path):
    jobs = jobs_of("suites=kmidi", "scale=full")
    plan = make_plan(jobs, machines(a={}, b={"never": ["kmidi"]}), tmp_path, seconds=1)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert Follow(jobs, tmp_path / "plan.json").host(SimpleNamespace(suite="kmidi", run="groove_predictor")) == "a"


@pytest.mark.parametrize("text", ['{"form": 1, "runs": [{}], "machines": [3]}', '{"form": 1, "runs": [1]}', "[", '{"runs": {}}'])
def test_a_damaged_plan_is_none(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    jobs = jobs_of("suites=kmidi", "scale=full")
    assert Follow(jobs, tmp_path / "plan.json").host(SimpleNamespace(suite="kmidi", run="groove_predictor")) is None
    assert make_plan(jobs, machines(a={}), tmp_path, last=tmp_path / "plan.json", seconds=1)["last"] == []


def test_a_plan_before_that_is_not_there_is_an_error(tmp_path):
    command = [sys.executable, str(HOME / "workflow/scripts/plan_machines.py"), "--last", "nosuch.json", "--config", "suites=kmidi"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "error: nosuch.json: No such file or directory\n" and not any(tmp_path.iterdir())


def test_a_run_that_the_plan_does_not_know_goes_where_it_is_pinned(tmp_path):
    path = tmp_path / "machines.yaml"
    path.write_text("machines: {a: {}, b: {runs: [groove_predictor]}}")
    config = read_config(HOME, [], ["suites=kmidi", f"machines={path}"])
    run = {"suite": "kmidi", "run": "melody_transformer", "machine": "a", "start": 0, "hours": 1}
    (tmp_path / "plan.json").write_text(json.dumps({"runs": [run], "machines": [{"name": "a"}, {"name": "b"}]}))
    follow = Follow(Jobs(config, HOME), tmp_path / "plan.json")
    hosts = {name: follow.host(SimpleNamespace(suite="kmidi", run=name)) for name in ("groove_predictor", "melody_transformer")}
    assert hosts == {"groove_predictor": "b", "melody_transformer": "a"}
