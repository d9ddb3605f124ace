"""The planner: as good as trying everything, and honest about its bound."""

import itertools

import numpy as np
import pytest
from plan_inputs import MUSIC, machines
from trainyard.config.machines import Machines
from trainyard.plan.build import build
from trainyard.plan.problem import Problem, Task
from trainyard.plan.schedule import schedule
from trainyard.plan.search import Goal, Loads, longest_first
from trainyard.plan.solve import find_plan


def brute_force(problem: Problem, goal: Goal) -> float:
    """The best value of all assignments: played through in the order of a value that none of them can be below, until that is worse."""
    places = [np.flatnonzero(np.isfinite(row)) for row in problem.hours]
    every = np.array(list(itertools.product(*places)))
    rows = np.arange(problem.hours.shape[0])
    least = np.zeros(len(every))
    if goal.minimise == "time":
        for w in range(len(problem.lanes)):
            work = ((every == w) * np.where(np.isfinite(problem.hours[rows, w]), problem.hours[rows, w], 0.0)).sum(axis=1)
            least = np.maximum(least, work)
    best = np.inf
    for i in np.argsort(least):
        if least[i] >= best:
            break
        played = schedule(problem, every[i])
        late = goal.deadline is not None and played.makespan > goal.deadline + 1e-9
        dear = goal.budget is not None and played.cost > goal.budget + 1e-9
        if np.isfinite(played.makespan) and not late and not dear and Loads(problem, every[i]).disk_ok():
            best = min(best, played.cost if goal.minimise == "cost" else played.makespan)
    return best


def random_case(seed: int) -> tuple[list[Task], Machines]:
    """Up to 8 runs on up to 3 machines, with everything the planner knows: data to bring, sessions, late joiners, disks, merges."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 9 if seed % 4 else 7))
    tasks = [
        Task("s", f"r{j}", f"m{j % 3}", float(random.lognormal(0.3, 0.7)), dataset=f"d{j % 2}", data_gb=float(random.uniform(0, 9)),
             output_gb=float(random.uniform(0, 2)), save_hours=0.05)
        for j in range(count)
    ]  # fmt: skip
    if seed % 3 == 0:
        shards = tuple(t.path for t in tasks if t.model == "m0")
        tasks.append(Task("s", "merged", "m0", float(random.uniform(0.05, 0.5)), after=shards, light=True))
    found: dict[str, dict] = {}
    for w in range(int(random.integers(1, 4))):
        found[f"box{w}"] = {"speed": float(random.uniform(0.5, 4))}
        if random.random() < 0.4:
            found[f"box{w}"] |= {"link_mb_s": float(random.uniform(1, 20))}
        if random.random() < 0.3:
            found[f"box{w}"] |= {"joins_hours": float(random.uniform(0, 2))}
        if random.random() < 0.3:
            found[f"box{w}"] |= {"session_hours": float(random.uniform(1, 4)), "session_gap_hours": float(random.uniform(0, 1))}
        if random.random() < 0.3:
            found[f"box{w}"] |= {"price_per_hour": float(random.uniform(0.1, 2))}
    return tasks, machines(**found)


@pytest.mark.parametrize("block", range(8))
def test_agrees_with_brute_force_on_200_instances(block):
    for seed in range(25 * block, 25 * block + 25):
        tasks, described = random_case(seed)
        problem = build(tasks, described)
        plan = find_plan(problem, seconds=3)
        best = brute_force(problem, Goal())
        assert plan.bound <= best + 1e-6, f"seed {seed}: the bound is above the best plan"
        assert plan.value == pytest.approx(best, rel=1e-6), f"seed {seed}: {plan.solver}"
        assert plan.gap < 1e-3, f"seed {seed}: not proven"
        assert plan.value <= schedule(problem, longest_first(problem)).makespan + 1e-9, f"seed {seed}: worse than longest first"


@pytest.mark.parametrize("seed", range(12))
def test_cost_and_budget_agree_with_brute_force(seed):
    tasks, described = random_case(4 * seed + 1)
    tasks = [t for t in tasks if not t.light][:5]
    priced = {n: m.model_copy(update={"price_per_hour": 0.2 + i, "speed": 1.0 + i}) for i, (n, m) in enumerate(described.machines.items())}
    problem = build(tasks, described.model_copy(update={"machines": priced}))
    fastest = brute_force(problem, Goal())
    cheap = find_plan(problem, Goal("cost", deadline=1.5 * fastest), seconds=3)
    assert cheap.schedule.makespan <= 1.5 * fastest * (1 + 1e-6)
    assert cheap.schedule.cost == pytest.approx(brute_force(problem, Goal("cost", deadline=1.5 * fastest)), rel=1e-4)
    budget = 1.3 * brute_force(problem, Goal("cost"))
    quick = find_plan(problem, Goal(budget=budget), seconds=3)
    assert quick.schedule.cost <= budget * (1 + 1e-6)
    assert quick.schedule.makespan == pytest.approx(brute_force(problem, Goal(budget=budget)), rel=1e-4)


def test_music_suite_on_one_two_and_three_machines():
    mac = {"speeds": {"melody_transformer": 6, "harmony_predictor": 4}}
    for found, hours in (({"a": {}}, 8), ({"a": {}, "b": {}}, 4), ({"a": {}, "b": {}, "mac": mac}, 2)):
        plan = find_plan(build(MUSIC, machines(**found)))
        assert plan.schedule.makespan == pytest.approx(hours)
        assert plan.gap == 0 and plan.bound == pytest.approx(hours)


def test_large_plans_are_never_worse_than_longest_first_and_know_their_gap():
    random = np.random.default_rng(0)
    tasks = [Task("s", f"r{j}", "m", float(random.lognormal(0.5, 0.8))) for j in range(120)]
    problem = build(tasks, machines(**{f"box{w}": {"speed": float(random.choice([1, 2, 4]))} for w in range(12)}))
    plan = find_plan(problem, seconds=1.5)
    assert plan.value <= schedule(problem, longest_first(problem)).makespan
    assert plan.bound <= plan.value and 0 <= plan.gap < 0.05


def test_sessions_cut_runs_and_cost_their_restarts():
    task = Task("s", "long", "m", 10, save_hours=0.5)
    described = machines(colab={"session_hours": 4, "session_gap_hours": 2, "restart_minutes": 30})
    slot = find_plan(build([task], described)).schedule.slots[0]
    assert len(slot.pieces) == 4, "3.5 h, and then 3 h a session"
    assert sum(b - a for a, b in slot.pieces) == pytest.approx(10)
    assert slot.end == pytest.approx(10 + 3 * (2 + 0.5 + 0.5))


def test_a_merge_waits_for_its_shards_and_they_come_first():
    shards = [Task("s", f"shard{i}", "lora", 1) for i in range(2)]
    other = Task("s", "other", "m", 1)
    merge = Task("s", "merged", "lora", 0.5, after=tuple(t.path for t in shards), light=True)
    plan = find_plan(build([other, *shards, merge], machines(a={})))
    ends = {(*plan.problem.tasks, merge)[s.task].run: s.end for s in plan.schedule.slots}
    assert ends["merged"] == pytest.approx(2.5) and ends["other"] == pytest.approx(3)
    assert plan.schedule.makespan == pytest.approx(3) and plan.gap == 0


def test_a_run_that_waits_for_another_starts_after_it():
    first, second = Task("s", "short", "m", 1), Task("s", "long", "m", 2, after=("s/short",))
    plan = find_plan(build([second, first], machines(a={}, b={})))
    assert plan.schedule.makespan == pytest.approx(3) and plan.gap == 0
