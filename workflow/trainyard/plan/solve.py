"""The best plan in the time allowed, with the gap to a bound of our own: exact where it is small, searched where it is not."""

import time
from dataclasses import dataclass, replace

import numpy as np

from trainyard.plan.bound import lane_prices, lower_bound
from trainyard.plan.exact import SOLVERS, Answer, solve
from trainyard.plan.problem import NoPlan, Problem
from trainyard.plan.schedule import Schedule, schedule
from trainyard.plan.search import Goal, Loads, improve, longest_first

SMALL = 400  # tasks × lanes that are solved exactly at once
WHOLE = 1_500  # tasks × lanes up to which the whole integer program is tried, as it may prove something
PROGRAM = 20_000  # tasks × lanes above which no integer program is built
PLACES = (5, 7, 10)  # lanes of each task in a narrowed program, and in the next if that one was no good
CLOSE = 0.002  # gap at which it may stop
TIGHT = 1e-6


@dataclass(frozen=True)
class Plan:
    """An assignment, its schedule and how good it is: no plan has a value below `bound`."""

    problem: Problem
    goal: Goal
    assigned: np.ndarray
    schedule: Schedule
    bound: float
    solver: str
    seconds: float  # all of planning
    solving: float = 0.0  # of the solver alone
    notes: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        """What was made small: hours, or cost."""
        return self.schedule.cost if self.goal.minimise == "cost" else self.schedule.makespan

    @property
    def gap(self) -> float:
        """How much better than this plan any plan can be, as a share of the bound; 0 is proof of the best."""
        if self.value <= self.bound * (1 + TIGHT) + 1e-9:
            return 0.0
        return self.value / self.bound - 1 if self.bound > 0 else np.inf


def find_plan(problem: Problem, goal: Goal | None = None, seconds: float = 5.0, solvers: tuple[str, ...] = SOLVERS) -> Plan:
    """Plan within about `seconds`. Raises NoPlan where deadline, budget or disk cannot be kept."""
    return _Planning(problem, goal or Goal(), seconds, solvers).plan()


class _Planning:
    """The best assignment so far, the best bound so far, and how both were found."""

    def __init__(self, problem: Problem, goal: Goal, seconds: float, solvers: tuple[str, ...]):
        self.problem, self.goal, self.seconds, self.solvers = problem, goal, seconds, solvers
        self.start = time.monotonic()
        self.size = len(problem.tasks) * len(problem.lanes)
        self.best = longest_first(problem)
        self.word = "longest first"
        self.notes: list[str] = []
        self.solving = 0.0
        self.bound = self.own = _bound(problem, goal, self.best, rounds=60 if self.size > PROGRAM else 300)

    def plan(self) -> Plan:
        if self.size <= SMALL:
            self._exactly()
        if self.word == "longest first" and not self.done:
            self._searched()
        else:
            # Where trainings wait for each other the program is a relaxation: its answer may be bettered. And a plan that is
            # shorter than a solver's proof of the shortest shows that the proof is none.
            self._improved(min(0.1, max(0.05, self.left)), self.word, enough=self.own)
        played = schedule(self.problem, self.best)
        took = time.monotonic() - self.start
        return _kept(Plan(self.problem, self.goal, self.best, played, self.bound, self.word, took, self.solving, tuple(self.notes)))

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.start)

    @property
    def value(self) -> float:
        return _value(self.problem, self.goal, self.best)

    @property
    def done(self) -> bool:
        return self.value <= self.bound * (1 + TIGHT) + 1e-9

    def _take(self, assigned: np.ndarray, word: str) -> None:
        """Keep an assignment if it is better."""
        value = _value(self.problem, self.goal, assigned)
        if value < self.value - 1e-12:
            self.best, self.word = assigned, word
            self._distrust(value, self.bound)

    def _raise(self, bound: float, solver: str) -> None:
        """Take a solver's bound, unless a plan that is already known is better than it allows."""
        if not self._distrust(self.value, bound, solver):
            self.bound = max(self.bound, bound)

    def _distrust(self, value: float, bound: float, solver: str = "the solver") -> bool:
        if value >= bound * (1 - 1e-4) - 1e-6 or bound <= self.own:
            return False
        self.notes.append(f"{solver} claimed that nothing is below {bound:.4g}, and {value:.4g} was found: its bound is not used")
        self.bound = self.own
        return True

    def _improved(self, seconds: float, word: str, seed: int = 0, start: np.ndarray | None = None, enough: float | None = None) -> None:
        begin = self.best if start is None else start
        stop = (self.bound if enough is None else enough) * (1 + TIGHT)
        self._take(improve(self.problem, begin, self.goal, seconds, seed, enough=stop), word)

    def _answer(self, seconds: float, gap: float = 0.0, relaxed: bool = False, problem: Problem | None = None) -> Answer | None:
        """Of the first solver that has one: the next where one is missing, hangs or fails."""
        for solver in self.solvers:
            if seconds <= 0:
                break
            answer = solve(problem or self.problem, self.goal, solver, max(0.5, seconds), gap, relaxed)
            if answer.assigned is not None:
                return answer
            if np.isposinf(answer.bound) and problem is None:
                if not self._possible():
                    raise NoPlan(_why_none(self.problem, self.goal, answer.said))
                answer = replace(answer, said=f"{answer.said}, and one that does was found: not believed")
            if problem is None or not np.isposinf(answer.bound):
                self.notes.append(answer.said)
        return None

    def _possible(self) -> bool:
        """Whether the plan that is known keeps all limits."""
        played = schedule(self.problem, self.best)
        try:
            _kept(Plan(self.problem, self.goal, self.best, played, self.bound, self.word, 0.0))
        except NoPlan:
            return False
        return True

    def _exactly(self) -> None:
        answer = self._answer(self.left)
        if answer is not None and answer.assigned is not None:
            self._take(answer.assigned, answer.solver)
            self._raise(answer.bound, answer.solver)
            self.word, self.solving = answer.solver, answer.seconds

    def _searched(self) -> None:
        """Moves and swaps; where there is time for it, from the answer of an integer program of the places that are worth it."""
        word = "longest first, then moves and swaps"
        self._improved(min(0.1 * self.seconds, 2.0), word)
        self.word = word
        if self.goal.plain and self.size > SMALL:
            self.bound = self.own = max(self.own, _bound(self.problem, self.goal, self.best, rounds=300))
            if self.size <= WHOLE and not self.done:
                self._solved(self.problem, 0.4 * self.left)
            for places in PLACES:
                # HiGHS has been seen to call a plan 12 % above the bound optimal within a second: wider, it found one within 1 %.
                close = self.value <= self.bound * (1 + 2 * CLOSE)
                if self.size > PROGRAM or close or self.left < 1.0 or len(self.problem.lanes) <= places:
                    break
                self._solved(narrowed(self.problem, self.value, places), 0.75 * self.left)
        if not self.done:
            self._improved(max(0.05, self.left), self.word, seed=1)

    def _solved(self, problem: Problem, seconds: float) -> None:
        """The integer program's answer, and its bound where it is of the whole problem."""
        whole = problem is self.problem
        answer = self._answer(seconds, 0.0 if whole else CLOSE, problem=None if whole else problem)
        if answer is None or answer.assigned is None:
            return
        if whole:
            self._raise(answer.bound, answer.solver)
        self.solving += answer.seconds
        word = f"{answer.solver}, then moves and swaps"
        self._take(answer.assigned, word)
        if not self.done:
            self._improved(min(1.0, 0.3 * max(0.0, self.left)), word, seed=2, start=answer.assigned)


def narrowed(problem: Problem, upper: float, places: int) -> Problem:
    """The problem with each task's `places` best lanes alone, by the hours at the lanes' prices; its optimum is no bound.

    At the prices of the linear program nearly every task of a good plan is on one of its cheapest lanes (reduced costs).
    """
    priced = problem.hours * lane_prices(problem, upper)
    worst = np.partition(priced, places - 1, axis=1)[:, places - 1 : places]
    return replace(problem, hours=np.where(priced <= worst, problem.hours, np.inf))


def _why_none(problem: Problem, goal: Goal, said: str) -> str:
    """Which limit it is, with the figure that does not fit, as far as our own bounds can tell."""
    everywhere = float(problem.hours[np.isfinite(problem.hours)].sum())
    soonest, cheapest = lower_bound(problem, everywhere), _bound(problem, Goal("cost"), longest_first(problem), 0)
    if goal.deadline is not None and soonest > goal.deadline:
        return f"no plan is done by the deadline of {goal.deadline:g} h: none takes less than {soonest:.4g} h"
    if goal.budget is not None and cheapest > goal.budget:
        return f"no plan keeps the budget of {goal.budget:g}: none costs less than {cheapest:.4g}"
    return f"no plan keeps all limits (deadline, budget, disk, sessions): {said}"


def _value(problem: Problem, goal: Goal, assigned: np.ndarray) -> float:
    """What an assignment is worth when it is played through."""
    played = schedule(problem, assigned)
    ends = played.finish.copy()
    if goal.minimise == "time":
        ends[int(ends.argmax())] = max(ends.max(), played.makespan)
    value = goal.value(problem, ends) if not goal.plain else played.makespan
    return value if Loads(problem, assigned).disk_ok() else value + 1e9


def _bound(problem: Problem, goal: Goal, assigned: np.ndarray, rounds: int) -> float:
    """Lower bound of the goal; for cost: every task on the machine where its own hours cost least."""
    if goal.minimise == "time":
        made = schedule(problem, assigned).makespan
        return lower_bound(problem, made if goal.plain else max(made, float(problem.hours[np.isfinite(problem.hours)].sum())), rounds)
    price = np.array(
        [problem.machines[lane.machine].price_per_hour / (problem.machines[lane.machine].slots or 1) for lane in problem.lanes]
    )
    hours = np.where(np.isfinite(problem.hours), problem.hours, 1e9)
    return float((hours * price).min(axis=1).sum())


def _kept(plan: Plan) -> Plan:
    """The plan, if it keeps deadline, budget, sessions and disk; NoPlan with the figure that does not fit otherwise."""
    goal, played = plan.goal, plan.schedule
    if not np.isfinite(played.makespan):
        raise NoPlan("no plan fits into the machines' sessions: some stop for good before their runs are done (session_gap_hours)")
    if goal.deadline is not None and played.makespan > goal.deadline * (1 + 1e-9):
        raise NoPlan(f"no plan was found that is done within {goal.deadline:g} h; the best found takes {played.makespan:.2f} h")
    if goal.budget is not None and played.cost > goal.budget * (1 + 1e-9):
        raise NoPlan(f"no plan was found within the budget of {goal.budget:g}; the best found costs {played.cost:.2f}")
    if not Loads(plan.problem, plan.assigned).disk_ok():
        raise NoPlan("no plan was found in which every machine's disk holds its runs and their data; give disk_gb, or fewer runs")
    return replace(plan, bound=min(plan.bound, plan.value))
