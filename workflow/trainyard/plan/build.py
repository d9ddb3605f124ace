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
        column = np.array([task.hours / (machine.speed_of(task.labels) * factor) for task in heavy])
        lost = np.array([task.save_hours / task.hours for task in heavy]) * column
        for j, task in enumerate(heavy):
            if reason := _refusal(task, name, machine, pins, lost[j], column[j]):
                column[j] = np.inf
                reasons[task.path].append(reason.format(name))
                refused.setdefault(name, f"{task.path}: {reason.format('it')}")
        if np.isfinite(column).any():
            refused.pop(name, None)
        size = {t.dataset: max(o.data_gb for o in heavy if o.dataset == t.dataset) for t in heavy}
        copy = [1000 * size[d] / machine.link_mb_s / 3600 if machine.link_mb_s else 0.0 for d in sets]
        useful, later, pause = _sessions(machine, float(lost[np.isfinite(column)].max(initial=0.0)))
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


def _refusal(task: Task, name: str, machine: Machine, pins: dict[str, str], lost: float, takes: float) -> str:
    """Why a task that takes so many hours on a machine, `lost` of them between two checkpoints, cannot go there, with {} for the
    machine; empty when it can."""
    slots = machine.slots or 1
    memory, gpus = (machine.memory_gb or 0.0) / slots, machine.gpus // slots
    if pins.get(task.path, name) != name:
        return f"it is pinned to {_plain(pins[task.path])}, not {{}}"
    if not machine.takes(task.labels):
        return "{} does not take it (only, never)"
    if task.memory_gb > memory:
        return f"it needs {task.memory_gb:g} GB of memory, a slot of {{}} has {memory:.3g}"
    if task.gpus > gpus:
        return f"it needs {task.gpus} GPU, a slot of {{}} has {gpus}"
    if machine.disk_gb is not None and task.data_gb + task.output_gb > machine.disk_gb:
        return f"it needs {task.data_gb + task.output_gb:.1f} GB of disk, {{}} has {machine.disk_gb:g}"
    return _too_short(machine, lost, takes)


def _plain(name: str) -> str:
    """A name as format() leaves it alone."""
    return name.replace("{", "{{").replace("}", "}}")


def _sessions(machine: Machine, lost: float) -> tuple[float, float, float]:
    """Useful hours of the first session and of later ones, and the pause between; `lost` hours of work are done twice at each end."""
    if machine.session_hours is None:
        return np.inf, np.inf, 0.0
    restart = machine.restart_minutes / 60
    if machine.session_gap_hours is None:
        return machine.session_hours, machine.session_hours, np.inf
    return machine.session_hours - lost, machine.session_hours - lost - restart, machine.session_gap_hours + restart + lost


def _too_short(machine: Machine, lost: float, takes: float) -> str:
    stops = machine.session_hours
    if stops is None:
        return ""
    if machine.session_gap_hours is None:
        return f"{{}} stops after {stops:g} h and does not come back (session_gap_hours)" if takes > stops else ""
    if lost + machine.restart_minutes / 60 < stops:
        return ""
    return (
        f"{{}} stops after {stops:g} h, which leaves no time between checkpoints ({lost:.2g} h apart) and a restart of "
        f"{machine.restart_minutes:g} min: save more often"
    )
