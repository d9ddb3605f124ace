"""What the page says of the plan: a sentence, the bars, and planned beside actual."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup

from trainyard.config.work import GUESS, next_speed
from trainyard.report.charts.plan_gantt import plan_gantt
from trainyard.report.numbers import duration, plural
from trainyard.report.views.whole import Planned


@dataclass(frozen=True)
class PlanRow:
    """A run: where, and hours planned and taken in words; `ratio` is taken / planned. `elsewhere`: where it ran instead."""

    run: str
    machine: str
    elsewhere: str
    start: str
    planned: str
    source: str
    taken: str
    ratio: float | None


@dataclass(frozen=True)
class MachineRow:
    """A machine: its planned work, and what the runs done there since say about its speed."""

    name: str
    runs: int
    busy: str
    until: str
    used: str
    speed: float
    next_speed: float | None
    words: str


@dataclass(frozen=True)
class PlanView:
    lead: str
    chart: Markup
    rows: tuple[PlanRow, ...]
    done: int
    machines: tuple[MachineRow, ...]
    others: tuple[tuple[str, str, str], ...]
    advice: tuple[str, ...]


def plan_view(planned: Planned | None, suites: list[str]) -> PlanView | None:
    """None where there is no plan."""
    if planned is None:
        return None
    plan = planned.plan
    chart = plan_gantt(plan, suites, planned.taken, planned.began, "planned times of the runs, by machine")
    rows = tuple(_row(run, planned) for run in sorted(plan["runs"], key=lambda r: (str(r["machine"]), r["start"])))
    others = [
        (str(o.get("name")), _hours(o.get("hours")), str(o.get("why") or _saved(plan, o))) for o in (*plan["given"], *plan["one_more"])
    ]
    done = sum(r.ratio is not None for r in rows)
    machines = tuple(_machine(m, planned) for m in plan["machines"])
    return PlanView(_lead(planned, done), chart, rows, done, machines, tuple(others), _advice(plan))


def _machine(machine: dict[str, Any], planned: Planned) -> MachineRow:
    """With the speed of the next plan: this one's times the median of planned / taken of the runs that ran where they were planned."""
    name = str(machine.get("name"))
    mine = [r for r in planned.plan["runs"] if r["machine"] == name]
    keys = [(str(r["suite"]), str(r["run"])) for r in mine]
    ran = [(r, planned.taken[key]) for r, key in zip(mine, keys) if planned.ran_on.get(key) == name and planned.taken[key] > 0]
    there = [(r["hours"], taken) for r, taken in ran if r["source"] != GUESS]
    speed = _number(machine.get("speed_correction")) or 1.0
    seen = median(before / taken for before, taken in there) if there else None
    words = "what ran there was planned with its time limit" if ran else "no planned run is done there"
    words = f"{plural(len(there), 'run')} took {1 / seen:.2g} times the planned hours (median)" if seen else words
    words = str(machine.get("refused") or "") or words
    busy, until, slots = _number(machine.get("busy")), _number(machine.get("until")), machine.get("slots")
    used = busy / until / slots if mine and busy and until and isinstance(slots, int) and slots else None
    return MachineRow(
        name, len(mine), _hours(busy), _hours(until) if mine else "–", f"{100 * used:.0f} %" if used else "–", speed,
        next_speed(speed, there), words,
    )  # fmt: skip


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _advice(plan: dict[str, Any]) -> tuple[str, ...]:
    """Without what was only true when the plan was made."""
    return tuple(words for words in map(str, plan["advice"]) if not words.startswith("Started now"))


def _lead(planned: Planned, done: int) -> str:
    plan = planned.plan
    runs = [r for r in plan["runs"] if r["machine"]]
    machines = {r["machine"] for r in runs}
    gap = plan.get("gap")
    if plan.get("proven"):
        proof = "No plan is shorter" if plan.get("minimise") == "time" else "No plan is cheaper"
    elif isinstance(gap, int | float):
        proof = f"At most {max(0.1, 100 * gap):.1f} % above the best there can be"
    else:
        proof = "How far from the best is unknown"
    low, high = (plan.get(k) for k in ("hours_low", "hours_high"))
    span = f"{_hours(low)} to {_hours(high)}" if high else f"{_hours(low)} or more"
    last = f" {plan['critical']} ends last: the whole ends sooner only if it does." if plan.get("critical") and len(machines) > 1 else ""
    words = f"{plural(len(runs), 'run')} on {plural(len(machines), 'machine')}"
    since = ""
    if done:
        took = max((start + planned.taken[key] for key, start in planned.began.items()), default=0.0)
        since = f" {done} of them {'is' if done == 1 else 'are'} done since, within {_hours(took)} from the first start to the last end."
    cost = f", costs {plan['cost']:,.2f}" if plan["cost"] else ""
    return f"{words}: {_hours(plan['hours'])} ({span}){cost}. {proof}.{last + since}"


def _row(run: dict[str, Any], planned: Planned) -> PlanRow:
    taken = planned.taken.get((str(run["suite"]), str(run["run"])))
    ratio = taken / run["hours"] if taken is not None and run["hours"] else None
    ran = planned.ran_on.get((str(run["suite"]), str(run["run"])), run["machine"])
    elsewhere = "" if ran == run["machine"] else f"ran on {ran or 'another host'}"
    return PlanRow(
        f"{run['suite']}/{run['run']}",
        str(run["machine"] or "any"),
        elsewhere,
        _hours(run["start"]),
        _hours(run["hours"]),
        str(run["source"]),
        _hours(taken) if taken is not None else "–",
        ratio,
    )


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
