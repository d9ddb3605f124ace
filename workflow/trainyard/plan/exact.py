"""The assignment as an integer program (PuLP; HiGHS, else CBC), solved in a process of its own that can be stopped.

A solver's word is not taken: the assignment is played through by our own schedule, and only a bound that the solver proved counts.
"""

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.plan.bound import cuts
from trainyard.plan.problem import Problem
from trainyard.plan.search import Goal

GRACE = 3.0  # seconds after its limit at which a solver that does not come back is stopped
EXACT = 1e-7  # gap at which a solver may call a plan the best
SOLVERS = ("HiGHS", "CBC")


@dataclass(frozen=True)
class Answer:
    """What a solver said: an assignment (relaxed: shares of each task) or None, a bound of the goal that it proved, and in words."""

    solver: str
    assigned: np.ndarray | None
    bound: float
    seconds: float  # of solving
    said: str


def solve(problem: Problem, goal: Goal, solver: str, seconds: float, gap: float = 0.0, relaxed: bool = False) -> Answer:
    """Ask one solver; never raises, never takes longer than `seconds` and a little, leaves no process and no file behind."""
    import pulp  # noqa: F401  (here, so that every child has it)

    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="plan-", ignore_cleanup_errors=True) as folder:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(theirs, folder, problem, goal, solver, seconds, gap, relaxed), daemon=True)
        child.start()
        theirs.close()
        try:
            if not ours.poll(seconds + GRACE):
                return Answer(solver, None, -np.inf, seconds, f"{solver} did not come back within {seconds:g} s and was stopped")
            try:
                return ours.recv()
            except EOFError:
                return Answer(solver, None, -np.inf, 0.0, f"{solver} ended without an answer")
        finally:
            _stop(child)
            ours.close()


def _stop(child: Any) -> None:
    """The child and, where it is a program that the child called, the solver: both are in the child's own session."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()  # it has not come to make its session yet, or is done
    child.join()


def _work(pipe: Any, folder: str, problem: Problem, goal: Goal, solver: str, seconds: float, gap: float, relaxed: bool) -> None:
    os.setsid()
    # Some solvers greet on stdout whatever they are told.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        pipe.send(_ask(folder, problem, goal, solver, seconds, gap, relaxed))
    except Exception as error:  # whatever a solver or its wrapper does, the fallback goes on
        pipe.send(Answer(solver, None, -np.inf, 0.0, f"{solver}: {' '.join(str(error).split()) or type(error).__name__}"))


def _ask(folder: str, problem: Problem, goal: Goal, solver: str, seconds: float, gap: float, relaxed: bool) -> Answer:
    import pulp

    program, place = _program(problem, goal, relaxed)
    log = Path(folder, "log")
    engine = _engine(solver, log, msg=False, timeLimit=seconds, gapRel=gap or EXACT, threads=1)
    if engine is None or not engine.available():
        return Answer(solver, None, -np.inf, 0.0, f"{solver} is not installed")
    engine.tmpDir = folder
    start = time.monotonic()
    program.solve(engine)
    took = time.monotonic() - start
    word = pulp.LpStatus[program.status]
    if program.status == pulp.LpStatusInfeasible:
        return Answer(solver, None, np.inf, took, f"{solver}: no assignment keeps all limits")
    values = np.array([[0.0 if v is None else (v.value() or 0.0) for v in row] for row in place])
    if program.status != pulp.LpStatusOptimal or not (values.sum(axis=1) > 0.5).all():
        return Answer(solver, None, -np.inf, took, f"{solver}: {word}")
    bound = -np.inf
    if solver == "HiGHS":
        info = program.solverModel.getInfo()
        bound = info.objective_function_value if relaxed else info.mip_dual_bound
    elif not relaxed and program.sol_status == pulp.LpSolutionOptimal and "Optimal solution found" in log.read_text(errors="replace"):
        # At its time limit CBC has been seen to call what it has optimal; its log knows better.
        bound = pulp.value(program.objective)
        bound -= abs(bound) * gap
    return Answer(solver, values.argmax(axis=1) if not relaxed else values, float(bound), took, f"{solver}: {word}")


def _engine(solver: str, log: Path, **settings: Any) -> Any:
    """PuLP's solver object. CBC: the one on the PATH, else the one that PuLP brings."""
    import pulp

    if solver == "HiGHS":
        return pulp.HiGHS(**settings)
    if solver == "CBC":
        own = shutil.which("cbc")
        settings["logPath"] = str(log)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pulp.COIN_CMD(path=own, **settings) if own else pulp.PULP_CBC_CMD(**settings)
    return None


def _program(problem: Problem, goal: Goal, relaxed: bool) -> tuple[Any, list[list[Any]]]:
    """The program, and its variable of every task on every lane (None where it cannot go).

    A relaxation of the schedule where trainings wait for each other; exact where they do not.
    """
    import pulp

    n, lanes = len(problem.tasks), problem.lanes
    kind = "Continuous" if relaxed else "Binary"
    place = [[pulp.LpVariable(f"x{j}_{w}", 0, 1, kind) if np.isfinite(problem.hours[j, w]) else None for w in range(len(lanes))]
             for j in range(n)]  # fmt: skip
    program = pulp.LpProblem("plan", pulp.LpMinimize)
    late = pulp.LpVariable("late", 0)
    program.setObjective(late)
    for j, row in enumerate(place):
        program += pulp.lpSum(v for v in row if v is not None) == 1, f"once{j}"
    ends = []
    for w, lane in enumerate(lanes):
        mine = [(j, row[w]) for j, row in enumerate(place) if row[w] is not None]
        if not mine:
            continue
        load = pulp.lpSum(problem.hours[j, w] * v for j, v in mine) + _brought(problem, program, mine, w, kind)
        end = pulp.LpVariable(f"end{w}", 0)
        used = pulp.LpVariable(f"used{w}", 0, 1, kind) if lane.joins else None
        if used is not None:
            for j, v in mine:
                program += v <= used, f"joins{w}_{j}"
        begin = lane.joins * used if used is not None else 0
        if not np.isfinite(lane.useful):
            program += end >= load + begin, f"load{w}"
        elif not np.isfinite(lane.pause):
            program += load <= lane.useful, f"session{w}"
            program += end >= load + begin, f"load{w}"
        else:
            more = pulp.LpVariable(f"sessions{w}", 0, None, "Continuous" if relaxed else "Integer")
            program += load <= lane.useful + lane.later * more, f"session{w}"
            program += end >= load + begin + lane.pause * more, f"load{w}"
        program += late >= end, f"late{w}"
        ends.append((w, end, begin))
        for c, cut in enumerate(cuts(problem.tails)):
            follow = [(j, v) for j, v in mine if problem.tails[j] >= cut] if cut else []
            if follow:
                # Exact without sessions: the tasks that most must follow come first on a lane.
                held = pulp.lpSum(problem.hours[j, w] * v for j, v in follow) + _brought(problem, program, follow, w, kind)
                for j, v in follow:
                    program += late >= (problem.hours[j, w] + cut) * v, f"alone{w}_{c}_{j}"
                some = pulp.LpVariable(f"some{w}_{c}", 0, 1, kind)
                for j, v in follow:
                    program += v <= some, f"some{w}_{c}_{j}"
                program += late >= held + cut * some + begin, f"tail{w}_{c}"
    for i, (name, machine) in enumerate(problem.machines.items()):
        if machine.disk_gb is not None:
            _disk(problem, program, place, i, name, machine.disk_gb, kind)
    if not goal.plain:
        _money(problem, program, goal, ends, late)
    return program, place


def _brought(problem: Problem, program: Any, mine: list[tuple[int, Any]], w: int, kind: str) -> Any:
    """Hours that bringing the data of these tasks costs a lane: once a data set."""
    import pulp

    total: Any = 0.0
    for d in np.flatnonzero(problem.copy[:, w] > 0):
        users = [v for j, v in mine if problem.data[j] == d]
        if users:
            there = pulp.LpVariable(f"there{d}_{w}_{len(program.constraints)}", 0, 1, kind)
            for v in users:
                program += v <= there
            total = total + float(problem.copy[d, w]) * there
    return total


def _disk(problem: Problem, program: Any, place: list[list[Any]], i: int, name: str, disk: float, kind: str) -> None:
    """What a machine's runs and their data take fits on its disk."""
    import pulp

    lanes = np.flatnonzero(problem.machine_of == i)
    held: list[Any] = []
    for d in np.unique(problem.data):
        users = [place[j][w] for j in np.flatnonzero(problem.data == d) for w in lanes if place[j][w] is not None]
        size = max(problem.tasks[j].data_gb for j in np.flatnonzero(problem.data == d))
        if users and size:
            there = pulp.LpVariable(f"disk{i}_{d}", 0, 1, kind)
            for v in users:
                program += v <= there
            held.append(size * there)
    held += [t.output_gb * place[j][w] for j, t in enumerate(problem.tasks) for w in lanes if place[j][w] is not None and t.output_gb]
    if held:
        program += pulp.lpSum(held) <= disk


def _money(problem: Problem, program: Any, goal: Goal, ends: list[tuple[int, Any, Any]], late: Any) -> None:
    """Cost as the goal, or under a budget: a machine is paid from its joining to its last lane's end."""
    import pulp

    bills = []
    for i, machine in enumerate(problem.machines.values()):
        mine = [(end, begin) for w, end, begin in ends if problem.machine_of[w] == i]
        if machine.price_per_hour and mine:
            busy = pulp.LpVariable(f"busy{i}", 0)
            for end, begin in mine:
                program += busy >= end - begin
            bills.append(machine.price_per_hour * busy)
    total = pulp.lpSum(bills)
    if goal.minimise == "cost":
        program.setObjective(total + 1e-6 * late)
        if goal.deadline is not None:
            program += late <= goal.deadline
    elif goal.budget is not None:
        program += total <= goal.budget
