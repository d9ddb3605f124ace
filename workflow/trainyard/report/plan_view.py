"""What the page says of the plan: a sentence, the bars, and planned beside actual."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from trainyard.report.charts.plan_gantt import plan_gantt
from trainyard.report.numbers import duration, plural
from trainyard.report.views import Planned


@dataclass(frozen=True)
class PlanRow:
    """A run: where, and hours planned and taken in words; `ratio` is taken / planned."""

    run: str
    machine: str
    start: str
    planned: str
    source: str
    taken: str
    ratio: float | None


@dataclass(frozen=True)
class PlanView:
    lead: str
    chart: Markup
    rows: tuple[PlanRow, ...]
    others: tuple[tuple[str, str, str], ...]
    advice: tuple[str, ...]


def plan_view(planned: Planned | None, suites: list[str]) -> PlanView | None:
    """None where there is no plan."""
    if planned is None:
        return None
    plan = planned.plan
    chart = plan_gantt(plan, suites, planned.taken, "planned times of the runs, by machine")
    rows = tuple(_row(run, planned) for run in sorted(plan["runs"], key=lambda r: (str(r["machine"]), r["start"])))
    others = [
        (str(o.get("name")), _hours(o.get("hours")), str(o.get("why") or _saved(plan, o))) for o in (*plan["given"], *plan["one_more"])
    ]
    return PlanView(_lead(plan), chart, rows, tuple(others), tuple(map(str, plan["advice"])))


def _lead(plan: dict[str, Any]) -> str:
    runs = [r for r in plan["runs"] if r["machine"]]
    machines = {r["machine"] for r in runs}
    gap = plan.get("gap")
    if plan.get("proven"):
        proof = "No plan is shorter" if plan.get("minimise") == "time" else "No plan is cheaper"
    elif isinstance(gap, int | float):
        proof = f"At most {max(0.1, 100 * gap):.1f} % above the best there can be"
    else:
        proof = "How far from the best is unknown"
    span = f"{_hours(plan['hours_low'])} to {_hours(plan['hours_high'])}"
    last = f" {plan['critical']} ends last: help there shortens the whole." if plan.get("critical") and len(machines) > 1 else ""
    cost = f", costs {plan['cost']:,.2f}" if plan["cost"] else ""
    return f"{plural(len(runs), 'run')} on {plural(len(machines), 'machine')}: {_hours(plan['hours'])} ({span}){cost}. {proof}.{last}"


def _row(run: dict[str, Any], planned: Planned) -> PlanRow:
    taken = planned.taken.get((str(run["suite"]), str(run["run"])))
    ratio = taken / run["hours"] if taken is not None and run["hours"] else None
    return PlanRow(
        f"{run['suite']}/{run['run']}", str(run["machine"] or "here"), _hours(run["start"]), _hours(run["hours"]), str(run["source"]),
        _hours(taken) if taken is not None else "–", ratio,
    )  # fmt: skip


def _saved(plan: dict[str, Any], other: dict[str, Any]) -> str:
    found = other.get("hours")
    if not isinstance(found, int | float):
        return ""
    saved = plan["hours"] - found
    if abs(saved) < 0.005 * max(plan["hours"], 1e-9):
        return "the same"
    return f"{_hours(abs(saved))} {'less' if saved > 0 else 'more'}"


def _hours(value: Any) -> str:
    if not isinstance(value, int | float):
        return "–"
    return duration(3600 * value) if value else "0"
