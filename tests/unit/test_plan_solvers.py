"""Solvers that are absent, hang, die or lie cost time and never the plan."""

import os
import sys

import pytest
from plan_inputs import MUSIC, machines
from processes import gone
from trainyard.plan import exact
from trainyard.plan.build import build
from trainyard.plan.problem import Task
from trainyard.plan.search import Goal
from trainyard.plan.solve import find_plan

# A `cbc` on the PATH that does what a solver should not. It is called as `cbc model.mps … -solution FILE`; the log is its stdout.
FAULTY = """#!{python}
import os, pathlib, sys, time
pathlib.Path({pid!r}).write_text(str(os.getpid()))
trick = {trick!r}
if trick == "hangs":
    time.sleep(600)
if trick == "dies":
    os.kill(os.getpid(), 9)
if trick == "nonsense":
    print("Result - Optimal solution found")
    pathlib.Path(sys.argv[sys.argv.index("-solution") + 1]).write_text("Optimal banana\\n")
    sys.exit()
if trick == "impossible":
    pathlib.Path(sys.argv[sys.argv.index("-solution") + 1]).write_text("Infeasible - objective value 0\\n")
    sys.exit()
# Everything on the first machine, which takes 12 h, claimed to take 7 and to be the best; "time limit": the log admits why it stopped.
text = pathlib.Path(sys.argv[1]).read_text()
columns = [line.split()[0] for line in text.split("COLUMNS")[1].split("RHS")[0].splitlines() if line.strip() and "MARKER" not in line]
columns = list(dict.fromkeys(columns))
names = {names!r}
print("Result - Stopped on time limit" if trick == "time limit" else "Result - Optimal solution found")
out = ["Optimal - objective value {claim}"]
out += [f"{{i}} {{column}} {{1 if names[i].endswith('_0') and names[i].startswith('x') else 7}} 0" for i, column in enumerate(columns)
        if not names[i].startswith("x") or names[i].endswith("_0")]
pathlib.Path(sys.argv[sys.argv.index("-solution") + 1]).write_text("\\n".join(out) + "\\n")
"""
# Longest first gives 7 h on two machines, the best is 6 h: a case in which a lie could be believed.
GRAHAM = [Task("s", f"r{i}", "m", hours) for i, hours in enumerate((3, 3, 2, 2, 2))]


def test_no_solver_leaves_the_search_and_its_true_gap():
    problem = build(MUSIC, machines(a={}, b={}))
    plan = find_plan(problem, seconds=1, solvers=("a solver nobody has",))
    assert plan.schedule.makespan == pytest.approx(4) and plan.gap == 0
    assert plan.solver.startswith("longest first") and "not installed" in plan.notes[0]


def test_the_fallback_solver_is_as_good(monkeypatch):
    """CBC, as PuLP brings it, where HiGHS is missing."""
    plan = find_plan(build(MUSIC, machines(a={}, b={})), solvers=("a solver nobody has", "CBC"))
    assert plan.schedule.makespan == pytest.approx(4) and plan.gap == 0 and plan.solver == "CBC"


@pytest.mark.parametrize(
    "trick,words",
    [
        ("hangs", "CBC did not come back"),
        ("dies", "CBC"),
        ("nonsense", "CBC"),
        ("impossible", "not believed"),
        ("optimal", "its bound is not used"),
        ("time limit", ""),
    ],
)
def test_a_solver_that_hangs_dies_or_lies_costs_only_time(monkeypatch, tmp_path, trick, words):
    """It runs in a process of its own; what it says is played through, and its proof must hold against what was found."""
    problem = build(GRAHAM, machines(a={}, b={}))
    program, _ = exact._program(problem, Goal(), False)
    text, pid = FAULTY.format(
        python=sys.executable, pid=str(tmp_path / "pid"), trick=trick, claim=7, names=[v.name for v in program.variables()]
    ), tmp_path / "pid"  # fmt: skip
    (tmp_path / "cbc").write_text(text)
    (tmp_path / "cbc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(exact, "GRACE", 0.3)
    plan = find_plan(problem, seconds=1, solvers=("CBC",))
    assert pid.exists(), "the faulty solver was asked"
    assert plan.schedule.makespan == pytest.approx(6) and plan.bound == pytest.approx(6), (plan.solver, plan.notes)
    assert words in " ".join(plan.notes), plan.notes
    assert gone(int(pid.read_text())), "it is stopped"
