"""Plans beside the plan: one machine more of each kind, and plans that a person made by hand."""

from dataclasses import dataclass
from statistics import median

import numpy as np

from trainyard.config.base import ConfigError
from trainyard.config.machines import Machines, fits
from trainyard.plan.build import build
from trainyard.plan.problem import NoPlan, Problem, Task
from trainyard.plan.schedule import schedule
from trainyard.plan.search import Goal
from trainyard.plan.solve import Plan, find_plan


@dataclass(frozen=True)
class Other:
    """Another plan: its hours and cost, or why there is none."""

    name: str
    hours: float | None
    cost: float | None = None
    why: str = ""


def one_more_of_each(plan: Plan, tasks: list[Task], machines: Machines, seconds: float) -> list[Other]:
    """What one more machine of every kind would bring; about `seconds` for all of them."""
    kinds = machines.one_more()
    found = []
    for kind, machine in kinds.items():
        name = f"one more {kind}"
        try:
            speeds = plan.problem.speeds
            problem = build(tasks, machines, speeds | {name: _speed_like(kind, machines, speeds)}, {name: machine})
            better = find_plan(problem, plan.goal, seconds / max(1, len(kinds)))
        except NoPlan as error:
            found.append(Other(name, None, why=str(error)))
            continue
        found.append(Other(name, better.schedule.makespan, better.schedule.cost))
    return found


def _speed_like(kind: str, machines: Machines, speeds: dict[str, float]) -> float:
    """Factor on the stated speed of one more of a kind: as found for those that there are."""
    found = [speeds[name] for name in machines.of_kind(kind) if name in speeds]
    return median(found) if found else 1.0


def given_plans(problem: Problem, machines: Machines) -> list[Other]:
    """Plans made by hand, played through. Raises ConfigError when a run is in none or in two places."""
    return [_given(problem, name, parts) for name, parts in machines.given.items()]


def _given(problem: Problem, name: str, parts: dict[str, tuple[str, ...]]) -> Other:
    assigned = np.zeros(len(problem.tasks), dtype=int)
    for j, task in enumerate(problem.tasks):
        places = [m for m, patterns in parts.items() if fits(patterns, task.labels)]
        if len(places) != 1:
            where = f"on {' and on '.join(places)}" if places else "nowhere"
            raise ConfigError(f"machines: given.{name}: {task.path} is {where}; each run needs one machine")
        lanes = [w for w, lane in enumerate(problem.lanes) if lane.machine == places[0]]
        # Several slots: the one that is free first.
        load = [sum(problem.hours[i, w] for i in range(j) if assigned[i] == w) for w in lanes]
        assigned[j] = lanes[int(np.argmin(load))]
        if not np.isfinite(problem.hours[j, assigned[j]]):
            return Other(name, None, why=f"{task.path} cannot go to {places[0]}")
    played = schedule(problem, assigned)
    return Other(name, played.makespan, played.cost)


def goal_of(machines: Machines) -> Goal:
    """The goal that a machines file states."""
    return Goal(machines.minimise, machines.deadline_hours, machines.budget)
