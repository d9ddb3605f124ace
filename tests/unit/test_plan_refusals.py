"""What cannot be planned, and mistakes in the machines file, are named."""

import pytest
from plan_inputs import HOME, MUSIC, jobs_of, machines
from trainyard.config.base import ConfigError
from trainyard.config.machines import Machines, load_machines
from trainyard.plan.build import build
from trainyard.plan.make import make_plan
from trainyard.plan.problem import NoPlan, Task
from trainyard.plan.search import Goal
from trainyard.plan.solve import find_plan

COLAB = {"session_hours": 2, "session_gap_hours": 1}


@pytest.mark.parametrize(
    "tasks,found,pins,words",
    [
        ([Task("s", "big", "m", 1, memory_gb=64)], {"a": {"memory_gb": 8}}, {}, ["s/big", "64 GB", "a has 8"]),
        ([Task("s", "r", "m", 1, gpus=1)], {"a": {}}, {}, ["s/r", "1 GPU"]),
        ([Task("s", "r", "m", 1, data_gb=50)], {"a": {"disk_gb": 32}}, {}, ["s/r", "50.0 GB of disk", "32"]),
        ([Task("s", "r", "m", 20)], {"kaggle": {"session_hours": 9}}, {}, ["s/r", "kaggle stops after 9 h", "come back"]),
        ([Task("s", "r", "m", 5, save_hours=3)], {"colab": COLAB}, {}, ["s/r", "colab", "save more often"]),
        ([Task("s", "r", "m", 1)], {"a": {}, "b": {}}, {"r": "a", "m": "b"}, ["s/r", "pinned to a", "to b"]),
        ([Task("s", "r", "m", 1)], {"a": {"never": ["m"]}}, {}, ["s/r", "a does not take it"]),
        ([Task("s", "x", "m", 1, after=("s/y",)), Task("s", "y", "m", 1, after=("s/x",))], {"a": {}}, {}, ["s/x → s/y → s/x"]),
        ([], {"a": {}}, {}, ["nothing to plan"]),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_named(tasks, found, pins, words):
    with pytest.raises(NoPlan) as refusal:
        find_plan(build(tasks, Machines.model_validate({"machines": found, "pins": pins})))
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_a_deadline_or_budget_that_cannot_be_kept_is_said():
    problem = build(MUSIC, machines(a={"price_per_hour": 1}))
    with pytest.raises(NoPlan, match="deadline of 1 h: none takes less than 8 h"):
        find_plan(problem, Goal("cost", deadline=1))
    with pytest.raises(NoPlan, match="budget of 0.5: none costs less than 8"):
        find_plan(problem, Goal(budget=0.5))


@pytest.mark.parametrize(
    "text,words",
    [
        ("machines: {a: {speed: 0}}", ["machines.a.speed", "greater than 0"]),
        ("machines: {a: {speeds: {x: -1}}}", ["machines.a", "'x' must be above 0"]),
        ("machines: {a: {cors: 4}}", ["cors", "did you mean 'cores'"]),
        ("machines: {a: {kind: mec}}\nkinds: {mac: {}}", ["machines.a.kind", "did you mean 'mac'"]),
        ("machines: {a: {}}\npins: {x: b}", ["pins.x", "unknown machine 'b'"]),
        ("machines: {a: {}}\nbudget: 3\nminimise: cost", ["budget belongs to"]),
        ("machines: [a]", ["machines"]),
        ("- a", ["expected a mapping"]),
        ("machines: {}", ["machines"]),
        ("machines: {a: {speed: .inf}}", ["machines.a.speed", "finite"]),
        ("machines: {a: {price_per_hour: .nan}}", ["machines.a.price_per_hour"]),
        ("machines: {a: {count: 2}, a-1: {}}", ["two machines are called 'a-1'"]),
        ("machines: {a: {count: 2, runs: [x]}}", ["machines.a", "runs", "count"]),
        ("machines: {a: {}}\ngiven: {mine: {b: [x]}}", ["given.mine", "unknown machine 'b'"]),
    ],
)
def test_mistakes_in_the_machines_file_are_named(tmp_path, text, words):
    path = tmp_path / "machines.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load_machines(path)
    assert all(word in str(refusal.value) for word in words), refusal.value


@pytest.mark.parametrize(
    "text,words",
    [
        (
            "machines: {a: {speeds: {melody_transfomer: 2}}}",
            ["machines.a.speeds", "did you mean 'melody_transformer'"],
        ),
        ("machines: {a: {only: [melody_transfomer]}, b: {}}", ["machines.a.only", "did you mean"]),
        ("machines: {a: {}}\npins: {groove: a}", ["pins (a)", "nothing is called 'groove'"]),
        ("machines: {a: {}}\ngiven: {mine: {a: [kmidy]}}", ["given.mine.a", "did you mean 'kmidi'"]),
        (
            "machines: {a: {}, b: {}}\ngiven: {mine: {a: [kmidi], b: ['melody*']}}",
            ["given.mine", "is on a and on b"],
        ),
    ],
)
def test_names_that_nothing_has_are_told_and_other_suites_names_are_fine(tmp_path, text, words):
    path = tmp_path / "machines.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        make_plan(jobs_of("suites=kmidi", "scale=full"), load_machines(path), tmp_path, seconds=1)
    assert all(word in str(refusal.value) for word in words), refusal.value
    path.write_text("machines: {a: {}, 2: {never: [housebrain]}}\npins: {'als-fold*': a}")
    assert make_plan(jobs_of("suites=kmidi", "scale=full"), load_machines(path), tmp_path, seconds=1)["proven"]


def test_the_shipped_machines_are_whole():
    for path in (
        HOME / "config/machines.yaml",
        HOME / "config/examples/machines_music.yaml",
        HOME / "config/examples/machines_housebrain.yaml",
        HOME / "config/examples/workers_music.yaml",
    ):
        assert load_machines(path).single()
