"""From an assignment to times: every task's start, pieces and end, and what the whole takes and costs."""

from dataclasses import dataclass

import numpy as np

from trainyard.plan.problem import Lane, Problem, wall


@dataclass(frozen=True)
class Slot:
    """When and where a task runs, in hours from now; several pieces where sessions cut it. A merge has no lane."""

    task: int  # index in problem.tasks; merges follow after them
    lane: int | None
    start: float
    end: float
    pieces: tuple[tuple[float, float], ...]
    copied: float = 0.0  # hours spent before on bringing its data set


@dataclass(frozen=True)
class Schedule:
    """All slots, in order of start."""

    slots: tuple[Slot, ...]
    makespan: float
    finish: np.ndarray  # hours from now at which each lane is free; its joining time when it does nothing
    cost: float


def order_of(problem: Problem) -> np.ndarray:
    """Tasks in the order in which every lane takes its own: what most must follow first, then longest first.

    By longest tail is optimal for one lane (Jackson 1955), and never puts a task before what it waits for.
    """
    fastest = problem.hours.min(axis=1) if len(problem.tasks) else np.zeros(0)
    keys = [(-round(float(problem.tails[j]), 9), round(float(problem.heads[j]), 9), -fastest[j], problem.tasks[j].path)
            for j in range(len(problem.tasks))]  # fmt: skip
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=int)


def schedule(problem: Problem, assigned: np.ndarray) -> Schedule:
    """Play an assignment (a lane for each task) through."""
    worked = [0.0] * len(problem.lanes)
    free = [lane.joins for lane in problem.lanes]
    there: set[tuple[int, int]] = set()
    ended: dict[str, float] = {}
    slots: list[Slot] = []
    for j in order_of(problem):
        task, w = problem.tasks[j], int(assigned[j])
        lane, data = problem.lanes[w], int(problem.data[j])
        copied = 0.0 if (data, w) in there else float(problem.copy[data, w])
        there.add((data, w))
        ready = max([ended[p] for p in task.after if p in ended], default=0.0)
        # An idle lane has waited: that time of its session is gone too.
        worked[w] += max(0.0, ready - free[w])
        begin = worked[w] + copied
        worked[w] = begin + float(problem.hours[j, w])
        pieces, end = _pieces(lane, begin, worked[w]), wall(lane, worked[w])
        slots.append(Slot(int(j), w, pieces[0][0], end, pieces, copied))
        free[w] = ended[task.path] = end
    for i, task in enumerate(problem.light):
        ready = max([ended[p] for p in task.after if p in ended], default=0.0)
        ended[task.path] = ready + task.hours
        slots.append(Slot(len(problem.tasks) + i, None, ready, ready + task.hours, ((ready, ready + task.hours),)))
    finish = np.array(free)
    slots.sort(key=lambda s: (s.start, s.task))
    return Schedule(tuple(slots), max(s.end for s in slots), finish, cost_of(problem, finish))


def cost_of(problem: Problem, finish: np.ndarray) -> float:
    """What the machines cost from joining to their last lane's end; an unused one costs nothing."""
    total = 0.0
    for i, machine in enumerate(problem.machines.values()):
        if machine.price_per_hour:
            busy = float((finish[problem.machine_of == i] - machine.joins_hours).max())
            total += machine.price_per_hour * max(0.0, busy)
    return total


def _pieces(lane: Lane, begin: float, end: float) -> tuple[tuple[float, float], ...]:
    """Wall-clock pieces of the work between `begin` and `end` hours of a lane."""
    if not np.isfinite(end) or end <= lane.useful + 1e-9:
        return ((lane.joins + begin, lane.joins + end),)
    pieces, at = [], begin
    while at < end - 1e-9:
        session = 0 if at < lane.useful - 1e-9 else 1 + int((at - lane.useful) / lane.later + 1e-9)
        until = min(end, lane.useful + session * lane.later)
        shift = lane.joins + session * lane.pause
        pieces.append((shift + at, shift + until))
        at = until
    return tuple(pieces)
