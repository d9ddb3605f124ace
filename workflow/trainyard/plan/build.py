"""From tasks and machines to a problem: which task can go to which machine, how long it takes there, and why not elsewhere."""

import numpy as np

from trainyard.config.machines import Machine, Machines, fits
from trainyard.plan.complete import completed
from trainyard.plan.problem import Lane, NoPlan, Problem, Task, ordered


def build(
    tasks: list[Task], machines: Machines, speeds: dict[str, float] | None = None, extra: dict[str, Machine] | None = None
) -> Problem:
    """The problem of doing `tasks` on `machines` (and `extra` ones). `speeds` corrects machines by name. Raises NoPlan."""
    if not tasks:
        raise NoPlan("there is nothing to plan: every run is done")
    ordered(tuple(tasks))
    single = {name: completed(machine, tasks) for name, machine in (machines.single() | (extra or {})).items()}
    heavy = tuple(t for t in tasks if not t.light)
    if not heavy:
        raise NoPlan("there is no training to plan, only merges")
    pins = _pins(heavy, machines)
    sets = list(dict.fromkeys(t.dataset for t in heavy))
    lanes, columns, copies = [], [], []
    refused: dict[str, str] = {}
    reasons: dict[str, list[str]] = {t.path: [] for t in heavy}
    for name, machine in single.items():
        factor = (speeds or {}).get(name, 1.0)
        column = np.full(len(heavy), np.inf)
        for j, task in enumerate(heavy):
            reason = _refusal(task, name, machine, pins)
            if reason:
                reasons[task.path].append(reason)
            else:
                column[j] = task.hours / (machine.speed_of(task.labels) * factor)
        size = {t.dataset: max(o.data_gb for o in heavy if o.dataset == t.dataset) for t in heavy}
        copy = [1000 * size[d] / machine.link_mb_s / 3600 if machine.link_mb_s else 0.0 for d in sets]
        fits = [t.save_hours / machine.speed_of(t.labels) for j, t in enumerate(heavy) if np.isfinite(column[j])]
        useful, later, pause = _sessions(machine, max(fits, default=0.0))
        for j, task in enumerate(heavy):
            if np.isfinite(column[j]) and (later <= 0 or (not np.isfinite(pause) and column[j] > useful)):
                column[j] = np.inf
                reasons[task.path].append(_too_short(task, name, machine, later))
        if not np.isfinite(column).any():
            refused[name] = f"{heavy[0].path}: {reasons[heavy[0].path][-1]}"
        for slot in range(machine.slots or 1):
            lanes.append(Lane(name, slot, machine.joins_hours, useful, later, pause))
            columns.append(column)
            copies.append(copy)
    hours = np.array(columns).T
    for j, task in enumerate(heavy):
        if not np.isfinite(hours[j]).any():
            raise NoPlan(f"no machine fits {task.path}: {'; '.join(reasons[task.path])}")
    data = np.array([sets.index(t.dataset) for t in heavy])
    light = tuple(t for t in tasks if t.light)
    return Problem(heavy, tuple(lanes), single, hours, np.array(copies).T, data, light, speeds or {}, refused)


def _pins(tasks: tuple[Task, ...], machines: Machines) -> dict[str, str]:
    """Machine of each pinned run. Raises NoPlan on pins that fit nothing or contradict each other."""
    found: dict[str, tuple[str, str]] = {}
    for pattern, name in machines.all_pins():
        fit = [t for t in tasks if fits((pattern,), t.labels)]
        for task in fit:
            before = found.get(task.path)
            if before and before[1] != name:
                raise NoPlan(f"{task.path} is pinned to {before[1]} by '{before[0]}' and to {name} by '{pattern}': take one pin away")
            found[task.path] = (pattern, name)
    return {path: name for path, (_, name) in found.items()}


def _refusal(task: Task, name: str, machine: Machine, pins: dict[str, str]) -> str:
    """Why a task cannot go to a machine; empty when it can."""
    slots = machine.slots or 1
    memory, gpus = (machine.memory_gb or 0.0) / slots, machine.gpus // slots
    if pins.get(task.path, name) != name:
        return f"it is pinned to {pins[task.path]}, not {name}"
    if not machine.takes(task.labels):
        return f"{name} does not take it (only, never)"
    if task.memory_gb > memory:
        return f"it needs {task.memory_gb:g} GB of memory, a slot of {name} has {memory:.3g}"
    if task.gpus > gpus:
        return f"it needs {task.gpus} GPU, a slot of {name} has {gpus}"
    if machine.disk_gb is not None and task.data_gb + task.output_gb > machine.disk_gb:
        return f"it needs {task.data_gb + task.output_gb:.1f} GB of disk, {name} has {machine.disk_gb:g}"
    return ""


def _sessions(machine: Machine, lost: float) -> tuple[float, float, float]:
    """Useful hours of the first session and of later ones, and the pause between; `lost` hours of work are done twice at each end."""
    if machine.session_hours is None:
        return np.inf, np.inf, 0.0
    restart = machine.restart_minutes / 60
    if machine.session_gap_hours is None:
        return machine.session_hours, machine.session_hours, np.inf
    return machine.session_hours - lost, machine.session_hours - lost - restart, machine.session_gap_hours + restart + lost


def _too_short(task: Task, name: str, machine: Machine, later: float) -> str:
    if later <= 0:
        return (
            f"{name} stops after {machine.session_hours:g} h, which leaves no time between checkpoints "
            f"({task.save_hours:g} h apart) and a restart of {machine.restart_minutes:g} min: save more often"
        )
    return f"{name} stops after {machine.session_hours:g} h and does not come back (session_gap_hours)"
