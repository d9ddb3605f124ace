"""Planned against actual: what each run of the last plan took, and what that says about the machines' speeds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.config.machines import Machines
from trainyard.config.work import GUESS, as_planned, next_speed
from trainyard.data.files import read_json
from trainyard.plan.earlier import measured


@dataclass(frozen=True)
class Compared:
    """One run of a plan that is done since: hours planned and taken, on the machine where it really ran."""

    suite: str
    run: str
    machine: str
    ran_on: str
    planned: float
    actual: float
    guessed: bool = False  # the planned hours were nobody's word: a time limit


def compare(plan: dict[str, Any], results: Path, machines: Machines) -> list[Compared]:
    """The runs of a plan (plan.json) that were trained after it was made, as it was planned; `ran_on` is empty where the host is no
    known machine."""
    found = []
    for run in plan.get("runs", []):
        taken = measured(results, run["suite"], run["run"]) if run.get("machine") else None
        if taken is None or not _since(results, run, str(plan.get("created", ""))) or not as_planned(run, taken.work, taken.epochs):
            continue
        ran_on = machines.of_host(taken.host) or ""
        guessed = run.get("source") == GUESS
        found.append(Compared(run["suite"], run["run"], run["machine"], ran_on, float(run["hours"]), taken.hours, guessed))
    return found


def _since(results: Path, run: dict[str, Any], created: str) -> bool:
    """Whether the run ended after the plan was made; ISO times in UTC sort as text."""
    try:
        return str(read_json(results / run["suite"] / "runs" / run["run"] / "train.json")["run_info"]["finished"]) >= created
    except (OSError, ValueError, KeyError, TypeError):
        return False


def corrected(before: dict[str, float], compared: list[Compared]) -> dict[str, float]:
    """Factors on the machines' speeds: what was known, corrected by the runs done where they were planned."""
    factors = dict(before)
    for machine in dict.fromkeys(c.machine for c in compared):
        there = [c for c in compared if c.machine == machine == c.ran_on and not c.guessed]
        found = next_speed(factors.get(machine, 1.0), [(c.planned, c.actual) for c in there])
        if found is not None:
            factors[machine] = found
    return factors
