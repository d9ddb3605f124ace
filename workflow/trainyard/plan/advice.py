"""What a person should know before it starts: is it worth several machines, and when will it end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from trainyard.data.files import read_json
from trainyard.plan.complete import recommended
from trainyard.plan.record import makespan_range
from trainyard.plan.solve import Plan
from trainyard.plan.words import hours

WORTH_A_LINE = 30.0  # seconds of a local copy below which nobody asks whether it pays


def advice(plan: Plan, results: Path) -> list[str]:
    """Lines of advice, each with its figures."""
    return [line for line in (_parallel(plan), _end(plan), *_slots(plan), *_copies(plan), *_local_copies(plan, results)) if line]


def _parallel(plan: Plan) -> str:
    """Together against the best single machine."""
    problem = plan.problem
    used = {problem.lanes[w].machine for w in plan.assigned}
    alone = {}
    for i, name in enumerate(problem.machines):
        lanes = np.flatnonzero(problem.machine_of == i)
        own = problem.hours[:, lanes[0]]
        if np.isfinite(own).all():
            copies = problem.copy[np.unique(problem.data), lanes[0]].sum()
            alone[name] = max(float(own.sum()) / len(lanes), float(own.max())) + copies
    if len(used) < 2 or not alone:
        return ""
    best = min(alone, key=lambda n: alone[n])
    gain = alone[best] / plan.schedule.makespan
    verdict = "worth it" if gain > 1.1 else "hardly worth it"
    return f"Several machines are {verdict}: {best} alone would take {hours(alone[best])}, {gain:.1f} times as long."


def _end(plan: Plan) -> str:
    low, high = makespan_range(plan)
    now = datetime.now(UTC)
    first, last = (now + timedelta(hours=h) for h in (low, high))
    form = "%H:%M" if high < 20 else "%a %d %b %H:%M"
    return f"Started now, it ends between {first.strftime(form)} and {last.strftime(form)} UTC."


def _slots(plan: Plan) -> list[str]:
    """Machines that would take more runs at once, or fewer, than they are planned with."""
    out = []
    tasks = list(plan.problem.tasks)
    for name, machine in plan.problem.machines.items():
        slots, runs = machine.slots or 1, recommended(machine.cores or 1, machine.memory_gb or 1.0, machine.gpus, tasks)
        if runs > slots:
            out.append(f"{name} has room for {runs} runs at once; the plan gives it {slots}: set slots where runs do not slow each other.")
        elif runs < slots:
            out.append(f"{name} is planned with {slots} runs at once, but has room for {runs}: lower its slots.")
    return out


def _local_copies(plan: Plan, results: Path) -> list[str]:
    """Since when each local copy has paid for itself: without it, every epoch reads and decodes all samples again."""
    out = []
    for dataset in dict.fromkeys(t.dataset for t in plan.problem.tasks if t.dataset):
        suite, _, name = dataset.partition("/")
        once = _copy_seconds(results, suite, name)
        epochs = sum(t.epochs for t in plan.problem.tasks if t.dataset == dataset)
        if once is not None and once >= WORTH_A_LINE and epochs > 1:
            out.append(
                f"The local copy of {name} took {hours(once / 3600)} once, about what reading the raw files costs an epoch: it has paid "
                f"for itself after the first of {epochs} epochs, and saves up to {hours((epochs - 1) * once / 3600)}."
            )
    return out


def _copy_seconds(results: Path, suite: str, dataset: str) -> float | None:
    """What the last local copy of a data set took, by the summary."""
    try:
        jobs = read_json(results / "summary.json").get("jobs", [])
    except (OSError, ValueError, AttributeError):
        return None
    found = [j for j in jobs if str(j.get("rule")).startswith("copy_to_local") and (j.get("suite"), j.get("run")) == (suite, dataset)]
    seconds = found[-1].get("seconds") if found else None
    return float(seconds) if isinstance(seconds, int | float) else None


def _copies(plan: Plan) -> list[str]:
    """What bringing the data costs, where it costs anything."""
    spent = sum(s.copied for s in plan.schedule.slots)
    if not spent:
        return []
    share = spent / max(1e-9, sum(s.end - s.start for s in plan.schedule.slots))
    return [f"Bringing the data takes {hours(spent)} of the machines' time ({100 * share:.0f} %)."]
