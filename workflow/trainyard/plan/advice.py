"""What a person should know before it starts: is it worth several machines, how many runs at once, and when will it end."""

import math
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.files import read_json
from trainyard.plan.complete import recommended
from trainyard.plan.problem import Problem, Task, wall
from trainyard.plan.record import makespan_range
from trainyard.plan.schedule import schedule
from trainyard.plan.search import longest_first
from trainyard.plan.solve import Plan
from trainyard.plan.tasks import predicted
from trainyard.plan.words import count, few, hours

PLANNED = ("train_", "run_script", "merge_", "validate_merge")  # rules whose jobs a plan holds
TOLD = 1e5  # hours beyond which no date is told
ASK = 1 / 60  # hours above which a contradiction is worth a line
WORTH_A_LINE = 30 / 3600  # hours of a local copy below which nobody asks whether it pays


def advice(plan: Plan, results: Path, copies: dict[str, float] | None = None) -> list[str]:
    """Lines of advice, each with its figures. `copies`: hours of a data set's local copy that its owners state, by suite/dataset."""
    lines = [_parallel(plan), _end(plan), _besides(results), *_refused(plan), *_elsewhere(plan), *_foreseen(plan, results), *_slots(plan)]
    lines += [*_brought(plan), _unknown(plan), *_local_copies(plan, results, copies or {})]
    return [line for line in lines if line]


def _parallel(plan: Plan) -> str:
    """Together against the best single machine."""
    problem = plan.problem
    used = {problem.lanes[w].machine for w in plan.assigned}
    least = {}  # no plan on this machine alone is shorter
    for i, name in enumerate(problem.machines):
        lanes = np.flatnonzero(problem.machine_of == i)
        own = problem.hours[:, lanes[0]]
        if np.isfinite(own).all():
            least[name] = float(wall(problem.lanes[lanes[0]], max(float(own.sum()) / len(lanes), float(own.max()))))
    if len(used) < 2 or not least:
        return ""
    best = min(least, key=lambda n: least[n])
    alone = _alone(problem, best) if math.isfinite(least[best]) else math.inf
    if not math.isfinite(alone):
        return ""
    gain = alone / plan.schedule.makespan
    verdict = "worth it" if gain > 1.1 else "hardly worth it"
    return f"Several machines are {verdict}: {best} alone would take {hours(alone)}, {gain:.1f} times as long."


def _alone(problem: Problem, name: str) -> float:
    """Hours until one machine has done everything, longest first."""
    lanes = [w for w, lane in enumerate(problem.lanes) if lane.machine == name]
    alone = replace(
        problem, lanes=tuple(problem.lanes[w] for w in lanes), machines={name: problem.machines[name]}, hours=problem.hours[:, lanes],
        copy=problem.copy[:, lanes],
    )  # fmt: skip
    return schedule(alone, longest_first(alone)).makespan


def _end(plan: Plan) -> str:
    low, high = makespan_range(plan)
    if low > TOLD:
        return ""
    now = datetime.now().astimezone()
    form = "%H:%M" if high < 20 else "%a %d %b %H:%M"
    first = f"{now + timedelta(hours=low):{form}}"
    if high > TOLD:
        if math.isfinite(high):
            return f"Started now, the trainings end at {first} {now.tzname()} at the earliest."
        return (
            f"Started now, the trainings end at {first} {now.tzname()} at the earliest. If every run takes the most that its figure "
            "allows, one does not fit into its machine's session, and that machine does not come back (session_gap_hours)."
        )
    when = f"between {first} and {now + timedelta(hours=high):{form}} {now.tzname()}"
    return f"Started now, the trainings end {when}: when every run takes the least, or the most, that its figure allows."


def _besides(results: Path) -> str:
    """What the plan leaves out."""
    others = [j for j in _jobs(results) if not str(j.get("rule")).startswith(PLANNED)]
    spent = sum(float(j["seconds"]) for j in others if isinstance(j.get("seconds"), int | float))
    known = f"; {hours(spent / 3600)} of work in the last call" if spent else ""
    return f"Not in the plan: preparing data, checks, baselines and evaluation{known}."


def _refused(plan: Plan) -> list[str]:
    """Machines that nothing can be given to."""
    reasons: dict[str, list[str]] = {}
    for name, reason in plan.problem.refused.items():
        reasons.setdefault(reason, []).append(name)
    return [f"Nothing can go to {few(names, 8)}: {reason}." for reason, names in reasons.items()]


def _elsewhere(plan: Plan) -> list[str]:
    """Hours stated for a GPU, of runs on machines that have none."""
    problem = plan.problem
    found: dict[str, list[str]] = {}
    for task, w in zip(problem.tasks, plan.assigned):
        machine = problem.lanes[w].machine
        if task.stated_on_gpu and not problem.machines[machine].gpus:
            found.setdefault(machine, []).append(task.path)
    return [
        f"Take care: the hours of {few(paths)} are those of a GPU, and {machine} is described without one: expect many times as long. "
        "`snakemake … preflight` times real steps there; then set the machine's `speeds`, or the model's `hours`."
        for machine, paths in found.items()
    ]


def _foreseen(plan: Plan, results: Path) -> list[str]:
    """Where a preflight's prediction contradicts what owners state."""
    out = {}
    for task in plan.problem.tasks:
        asked = task.source == "stated" and not task.after
        found = predicted(results, task.suite, task.model, task.work, task.epochs) if asked else None
        if found and not task.low * task.hours <= found[0] <= task.high * task.hours and max(found[0], task.hours) > ASK:
            out[task.suite, task.model] = (
                f"Preflight predicts {hours(found[0])} for {task.suite}/{task.model} where it ran; the suite states {hours(task.hours)}. "
                "To plan with the prediction, set the model's `hours: null`."
            )
    return list(out.values())


def _slots(plan: Plan) -> list[str]:
    """Machines that would take more runs at once, or fewer, than they are planned with."""
    rooms: dict[tuple[int, int], list[str]] = {}
    for name, machine in plan.problem.machines.items():
        room = recommended(machine.cores or 1, machine.memory_gb or 1.0, machine.gpus, list(plan.problem.tasks))
        if room != (machine.slots or 1):
            rooms.setdefault((machine.slots or 1, room), []).append(name)
    return [
        f"Runs at once: {few(names, 8)} {'have' if len(names) > 1 else 'has'} room for {room} by cores and memory; the plan has {slots}. "
        + ("Set `slots` where runs do not slow each other." if room > slots else "Lower `slots`.")
        for (slots, room), names in rooms.items()
    ]


def _brought(plan: Plan) -> list[str]:
    """What bringing the data costs, where it costs anything."""
    spent = sum(s.copied for s in plan.schedule.slots)
    if not spent:
        return []
    share = spent / max(1e-9, sum(s.end - s.start for s in plan.schedule.slots))
    return [f"Bringing the data takes {hours(spent)} of the machines' time ({100 * share:.0f} %)."]


def _unknown(plan: Plan) -> str:
    """Data sets whose size would matter, and is not known."""
    asked = any(m.link_mb_s or m.disk_gb for m in plan.problem.machines.values())
    names = list(dict.fromkeys(t.dataset for t in plan.problem.tasks if t.dataset and not t.data_gb))
    if not asked or not names:
        return ""
    size = "its size is" if len(names) == 1 else "their sizes are"
    return f"Bringing {few(names)} to machines, and room on their disks, is not counted: {size} known after the local copy (or `stated`)."


def _local_copies(plan: Plan, results: Path, stated: dict[str, float]) -> list[str]:
    """Since when each local copy pays for itself: without it, every epoch reads and decodes all samples again."""
    out = []
    for dataset in dict.fromkeys(t.dataset for t in plan.problem.tasks if t.dataset):
        suite, _, name = dataset.partition("/")
        tasks = [t for t in plan.problem.tasks if t.dataset == dataset]
        seen, epochs = _copy_seconds(results, suite, name), sum(t.epochs for t in tasks)
        once = seen / 3600 if seen is not None else stated.get(dataset, 0.0)
        if once < WORTH_A_LINE or epochs < 2:
            continue
        took = f"The local copy of {name} {'took' if seen is not None else 'takes'} {hours(once)} once"
        raw = [t for t in tasks if t.raw_hours is not None and t.source == "stated"]
        if raw:
            out.append(f"{took}{', by its owners' if seen is None else ''}: {_pays(raw, once)}")
        else:
            out.append(
                f"{took}, about what reading the raw files costs an epoch: it has paid for itself after the first of {epochs} epochs, "
                f"and saves up to {hours((epochs - 1) * once)}."
            )
    return out


def _pays(tasks: list[Task], once: float) -> str:
    """From what owners say of these trainings with and without a local copy that takes `once` hours."""
    before, after, epochs = sum(t.raw_hours or 0.0 for t in tasks), sum(t.hours for t in tasks), sum(t.epochs for t in tasks)
    runs = count(len(tasks), "run")
    words = f"reading the raw files in every epoch, {runs} would take {hours(before)} of work instead of {hours(after)}; "
    if before - after <= once:
        return words + "it does not pay here."
    pays = math.ceil(once / (before - after) * epochs)
    return words + f"it pays after {pays} of {epochs} epochs and saves {hours(before - after - once)}."


def _copy_seconds(results: Path, suite: str, dataset: str) -> float | None:
    """What the last local copy of a data set took, by the summary."""
    copies = [j for j in _jobs(results) if str(j.get("rule")).startswith("copy_to_local")]
    found = [j for j in copies if (j.get("suite"), j.get("run")) == (suite, dataset)]
    seconds = found[-1].get("seconds") if found else None
    return float(seconds) if isinstance(seconds, int | float) else None


def _jobs(results: Path) -> list[dict[str, Any]]:
    """The jobs of the last call, by the summary."""
    try:
        found = read_json(results / "summary.json").get("jobs", [])
    except (OSError, ValueError, AttributeError):
        return []
    return [j for j in found if isinstance(j, dict)] if isinstance(found, list) else []
