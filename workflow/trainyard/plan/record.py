"""plan.json: a plan as the rules, the report and the next plan read it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from trainyard.plan.actual import Compared
from trainyard.plan.schedule import Schedule, schedule
from trainyard.plan.solve import Plan
from trainyard.plan.whatif import Other

FORM = 1


def record(plan: Plan, others: list[Other], given: list[Other], compared: list[Compared], advice: list[str]) -> dict[str, Any]:
    """The plan as JSON. Hours count from `created`."""
    problem, played = plan.problem, plan.schedule
    low, high = makespan_range(plan)
    last = critical(plan)
    return {
        "form": FORM,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "minimise": plan.goal.minimise,
        "hours": round(played.makespan, 6),
        "hours_low": _finite(low),
        "hours_high": _finite(high),  # null: some run would not fit into its machine's session
        "cost": round(played.cost, 4),
        "bound": round(plan.bound, 6),
        "gap": round(plan.gap, 6) if np.isfinite(plan.gap) else None,
        "proven": bool(plan.gap == 0.0),
        "solver": plan.solver,
        "solver_seconds": round(plan.solving, 4),
        "seconds": round(plan.seconds, 3),
        "notes": list(plan.notes),
        "critical": last,
        "machines": [
            {
                "name": name, "host": m.host or name, "kind": m.kind, "slots": m.slots, "joins": m.joins_hours,
                "price_per_hour": m.price_per_hour, "refused": problem.refused.get(name),
                "speed_correction": round(problem.speeds.get(name, 1.0), 4),
                "until": round(max((s.end for s in played.slots if _machine(plan, s.lane) == name), default=m.joins_hours), 6),
                "busy": round(sum(s.end - s.start for s in played.slots if _machine(plan, s.lane) == name), 6),
            }
            for name, m in problem.machines.items()
        ],
        "runs": [_run(plan, slot) for slot in played.slots],
        "one_more": [vars(o) for o in others],
        "given": [vars(o) for o in given],
        "last": [vars(c) for c in compared],
        "advice": advice,
    }  # fmt: skip


def _finite(hours: float) -> float | None:
    return round(hours, 6) if np.isfinite(hours) else None


def _machine(plan: Plan, lane: int | None) -> str | None:
    return None if lane is None else plan.problem.lanes[lane].machine


def _run(plan: Plan, slot: Any) -> dict[str, Any]:
    tasks = (*plan.problem.tasks, *plan.problem.light)
    task = tasks[slot.task]
    lane = plan.problem.lanes[slot.lane] if slot.lane is not None else None
    return {
        "suite": task.suite, "run": task.run, "model": task.model, "machine": lane.machine if lane else None,
        "slot": lane.slot if lane else None, "start": round(slot.start, 6), "end": round(slot.end, 6),
        "pieces": [[round(a, 6), round(b, 6)] for a, b in slot.pieces], "copied": round(slot.copied, 6),
        "hours": round(sum(b - a for a, b in slot.pieces), 6), "reference_hours": round(task.hours, 6), "source": task.source,
        "low": task.low, "high": task.high, "epochs": task.epochs, "work": task.work, "after": list(task.after),
    }  # fmt: skip


def makespan_range(plan: Plan) -> tuple[float, float]:
    """When all is done if every run takes the low, or the high, end of its range; the same assignment."""
    return _scaled(plan, "low").makespan, _scaled(plan, "high").makespan


def _scaled(plan: Plan, end: str) -> Schedule:
    factors = np.array([getattr(t, end) for t in plan.problem.tasks])
    light = tuple(replace(t, hours=t.hours * getattr(t, end)) for t in plan.problem.light)
    return schedule(replace(plan.problem, hours=plan.problem.hours * factors[:, None], light=light), plan.assigned)


def critical(plan: Plan) -> str:
    """The machine whose work ends last: help there shortens the whole."""
    busy = [w for w in range(len(plan.problem.lanes)) if (plan.assigned == w).any()]
    return plan.problem.lanes[max(busy, key=lambda w: plan.schedule.finish[w])].machine
