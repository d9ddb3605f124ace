"""Plans for any size, without a solver: longest first to the lane that ends soonest, then moves and swaps off the last lane."""

import time

import numpy as np

from trainyard.plan.problem import Problem, wall
from trainyard.plan.schedule import cost_of, order_of

LARGE = 1e6


class Loads:
    """An assignment and what follows from it, changed by moves: hours of work and the end of each lane."""

    def __init__(self, problem: Problem, assigned: np.ndarray):
        self.problem = problem
        self.assigned = assigned.copy()
        self.counts = np.zeros(problem.copy.shape, dtype=int)
        np.add.at(self.counts, (problem.data, assigned), 1)
        rows = np.arange(len(assigned))
        self.work = np.bincount(assigned, problem.hours[rows, assigned], len(problem.lanes))
        self.work = self.work + (problem.copy * (self.counts > 0)).sum(axis=0)
        self.tails = bool(problem.tails.any())
        if self.tails:
            self.rank = np.argsort(order_of(problem))
        self.ends = np.array([self._end(w) for w in range(len(problem.lanes))])

    def _end(self, w: int) -> float:
        lane = self.problem.lanes[w]
        end = wall(lane, self.work[w])
        if not self.tails:
            return end
        # What must follow a task counts as well: its lane's order is by tails, and data are brought when first needed.
        mine = np.flatnonzero(self.assigned == w)
        mine = mine[np.argsort(self.rank[mine])]
        data = self.problem.data[mine]
        first = np.zeros(len(mine), dtype=bool)
        first[np.unique(data, return_index=True)[1]] = True
        done = np.cumsum(self.problem.hours[mine, w] + np.where(first, self.problem.copy[data, w], 0.0))
        return max([end, *(wall(lane, d) + self.problem.tails[j] for d, j in zip(done, mine) if self.problem.tails[j] > 0)])

    def add_hours(self, j: int) -> np.ndarray:
        """Hours of work that task j would bring to every lane, its data included."""
        d = self.problem.data[j]
        return self.problem.hours[j] + np.where(self.counts[d] > 0, 0.0, self.problem.copy[d])

    def move(self, j: int, w: int) -> None:
        """Put task j on lane w."""
        v, d = int(self.assigned[j]), self.problem.data[j]
        self.counts[d, v] -= 1
        self.work[v] -= self.problem.hours[j, v] + (self.problem.copy[d, v] if self.counts[d, v] == 0 else 0.0)
        self.work[w] += self.problem.hours[j, w] + (self.problem.copy[d, w] if self.counts[d, w] == 0 else 0.0)
        self.counts[d, w] += 1
        self.assigned[j] = w
        self.ends[v], self.ends[w] = self._end(v), self._end(w)

    def disk_ok(self) -> bool:
        """Whether every machine holds the data sets and outputs of its runs."""
        for i, machine in enumerate(self.problem.machines.values()):
            if machine.disk_gb is None:
                continue
            mine = np.flatnonzero(self.problem.machine_of[self.assigned] == i)
            tasks = [self.problem.tasks[j] for j in mine]
            sets = {t.dataset: t.data_gb for t in tasks}
            if sum(sets.values()) + sum(t.output_gb for t in tasks) > machine.disk_gb + 1e-9:
                return False
        return True

    @property
    def limits_disk(self) -> bool:
        return any(m.disk_gb is not None for m in self.problem.machines.values())


class Goal:
    """What a plan is judged by: time, cost under a deadline, or time under a budget. Smaller is better."""

    def __init__(self, minimise: str = "time", deadline: float | None = None, budget: float | None = None):
        self.minimise, self.deadline, self.budget = minimise, deadline, budget

    @property
    def plain(self) -> bool:
        return self.minimise == "time" and self.budget is None

    def value(self, problem: Problem, ends: np.ndarray) -> float:
        late = float(ends.max())
        if self.plain:
            return late
        cost = cost_of(problem, ends)
        if self.minimise == "cost":
            over = max(0.0, late - self.deadline) if self.deadline is not None else 0.0
            return cost + 1e-6 * late + LARGE * over
        return late + LARGE * max(0.0, cost - (self.budget or 0.0)) if self.budget is not None else late


def longest_first(problem: Problem) -> np.ndarray:
    """Each task, longest first, to the lane where it ends soonest (Graham 1969; unequal lanes: Ibarra and Kim 1977)."""
    loads = np.zeros(len(problem.lanes))
    held = np.zeros(problem.copy.shape, dtype=bool)
    assigned = np.zeros(len(problem.tasks), dtype=int)
    disk = {i: m.disk_gb for i, m in enumerate(problem.machines.values()) if m.disk_gb is not None}
    used = dict.fromkeys(disk, 0.0)
    there: set[tuple[int, int]] = set()
    joins = np.array([lane.joins for lane in problem.lanes])
    plain = all(np.isposinf(lane.useful) for lane in problem.lanes)
    for j in np.lexsort((-problem.hours.min(axis=1), -problem.tails)):
        d, task = int(problem.data[j]), problem.tasks[j]
        new = loads + problem.hours[j] + np.where(held[d], 0.0, problem.copy[d])
        ends = new + joins if plain else np.array([wall(lane, n) for lane, n in zip(problem.lanes, new)])
        for w in np.argsort(ends, kind="stable"):
            m = int(problem.machine_of[w])
            need = task.output_gb + (0.0 if (d, m) in there else task.data_gb)
            if m not in disk or used[m] + need <= disk[m] + 1e-9 or not np.isfinite(ends[w]):
                break
        else:
            w = int(np.argmin(ends))
        if m in disk:
            used[m] += need
            there.add((d, m))
        loads[w], held[d, w], assigned[j] = new[w], True, w
    return assigned


def improve(problem: Problem, assigned: np.ndarray, goal: Goal, seconds: float, seed: int = 0, enough: float = 0.0) -> np.ndarray:
    """Moves and swaps until none helps, then kicks out of that, until `seconds` are over or the value is at most `enough`.

    Returns an assignment that is never worse than the one given.
    """
    until = time.monotonic() + seconds
    random = np.random.default_rng(seed)
    state = Loads(problem, assigned)
    best, best_value = state.assigned.copy(), goal.value(problem, state.ends)
    allowed = state.disk_ok()
    while True:
        _descend(state, goal, until, random)
        value = goal.value(problem, state.ends)
        fits = state.disk_ok()
        if (fits, -value) > (allowed, -best_value + 1e-12):
            best, best_value, allowed = state.assigned.copy(), value, fits
        elif value > best_value * 1.02:
            state = Loads(problem, best)
        if time.monotonic() >= until or (allowed and best_value <= enough):
            return best
        _kick(state, random)


def _descend(state: Loads, goal: Goal, until: float, random: np.random.Generator) -> None:
    while time.monotonic() < until:
        if not (_off_the_last(state) if goal.plain else _any_move(state, goal, random)):
            return


def _off_the_last(state: Loads) -> bool:
    """One move or swap that shortens the lane that ends last, and makes no other end as late; whether there was one."""
    problem, w = state.problem, int(state.ends.argmax())
    last = state.ends[w]
    lanes = problem.lanes
    simple = not state.tails and all(np.isposinf(lane.useful) for lane in lanes)
    joins = np.array([lane.joins for lane in lanes])
    own = np.flatnonzero(state.assigned == w)
    mine: list[int] = own[np.argsort(-problem.hours[own, w])].tolist()
    options: list[tuple[float, int, int, int]] = []
    for j in mine:
        ends = state.work + state.add_hours(j) + joins
        ends[w] = np.inf
        v = int(ends.argmin())
        if ends[v] < last - 1e-9:
            options.append((max(float(ends[v]), float(last - problem.hours[j, w])), j, v, -1))
    others = np.flatnonzero(state.assigned != w)
    at = state.assigned[others]
    if len(others):
        gone = state.work[at] + joins[at] - problem.hours[others, at]
        for j in mine:
            theirs = gone + problem.hours[j, at]  # their lane with j instead
            ours = last - problem.hours[j, w] + problem.hours[others, w]
            both = np.maximum(theirs, ours)
            for k in np.argpartition(both, min(2, len(both) - 1))[:3]:
                if both[k] < last - 1e-9:
                    options.append((float(both[k]), j, int(at[k]), int(others[k])))
    for _, j, v, other in sorted(options)[:20]:
        before = state.ends[[w, v]].copy()
        disk = state.limits_disk and state.disk_ok()
        state.move(j, v)
        if other >= 0:
            state.move(other, w)
        if max(state.ends[w], state.ends[v]) < last - 1e-9 and (not disk or state.disk_ok()):
            return True
        if other >= 0:
            state.move(other, v)
        state.move(j, w)
        if simple and not state.limits_disk:
            state.ends[[w, v]] = before
    return False


def _any_move(state: Loads, goal: Goal, random: np.random.Generator) -> bool:
    """One move of any task, or swap with another, that helps the goal; tasks in random order."""
    problem = state.problem
    value = goal.value(problem, state.ends)
    disk = state.limits_disk and state.disk_ok()
    for j in random.permutation(len(problem.tasks)):
        home = int(state.assigned[j])
        for v in np.flatnonzero(np.isfinite(problem.hours[j])):
            if v == home:
                continue
            state.move(j, int(v))
            if goal.value(problem, state.ends) < value - 1e-9 and (not disk or state.disk_ok()):
                return True
            for other in np.flatnonzero((state.assigned == v) & np.isfinite(problem.hours[:, home]))[:20]:
                if other == j:
                    continue
                state.move(int(other), home)
                if goal.value(problem, state.ends) < value - 1e-9 and (not disk or state.disk_ok()):
                    return True
                state.move(int(other), int(v))
            state.move(j, home)
    return False


def _kick(state: Loads, random: np.random.Generator) -> None:
    """Throw a few tasks, most of them from the last lane, somewhere else."""
    problem = state.problem
    w = int(state.ends.argmax())
    for _ in range(3):
        mine = np.flatnonzero(state.assigned == w)
        j = int(random.choice(mine)) if len(mine) else int(random.integers(len(problem.tasks)))
        lanes = np.flatnonzero(np.isfinite(problem.hours[j]))
        near = lanes[np.argsort(problem.hours[j, lanes] + 0.1 * state.ends[lanes])][: max(2, len(lanes) // 4)]
        state.move(j, int(random.choice(near)))
        w = int(random.integers(len(problem.lanes)))
