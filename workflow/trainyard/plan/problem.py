"""What is to be planned, as arrays: tasks × lanes. A lane is one slot of a machine and works on one training at a time."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trainyard.config.machines import Machine, Machines, fits, labels_of


class NoPlan(ValueError):
    """There is no plan, and why: with the run and the machine."""


@dataclass(frozen=True)
class Task:
    """A training, or a merge. `hours` are those of a machine of speed 1; low and high their range as factors."""

    suite: str
    run: str
    model: str
    hours: float
    source: str = "stated"
    low: float = 1.0
    high: float = 1.0
    dataset: str = ""
    data_gb: float = 0.0
    memory_gb: float = 0.0
    gpus: int = 0
    threads: int = 1
    epochs: int = 0
    output_gb: float = 0.0
    save_hours: float = 0.0  # work between two checkpoints: what a session's end can cost
    after: tuple[str, ...] = ()  # paths of tasks that must be done before
    stated_on_gpu: bool = False  # the hours are those of a GPU, for some training that asks for none
    raw_hours: float | None = None  # of a training that reads the raw files in every epoch, by its owners
    light: bool = False  # done where the workflow runs, beside the trainings: a merge

    @property
    def path(self) -> str:
        return f"{self.suite}/{self.run}"

    @property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self.suite, self.model, self.run)


@dataclass(frozen=True)
class Lane:
    """One slot of a machine. `useful` hours of work fit into its first session, `later` into each that follows."""

    machine: str
    slot: int
    joins: float
    useful: float
    later: float
    pause: float  # hours between two sessions in which nothing is trained


@dataclass(frozen=True)
class Problem:
    """Tasks and lanes, with hours[j, w] of task j on lane w (inf: cannot go there) and copy[d, w], the hours of data set d to it."""

    tasks: tuple[Task, ...]
    lanes: tuple[Lane, ...]
    machines: dict[str, Machine]
    hours: np.ndarray
    copy: np.ndarray
    data: np.ndarray  # index of each task's data set
    light: tuple[Task, ...] = ()
    speeds: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # machines that no task can go to, with the first task's reason

    @cached_property
    def machine_of(self) -> np.ndarray:
        """Index of each lane's machine."""
        order = {name: i for i, name in enumerate(self.machines)}
        return np.array([order[lane.machine] for lane in self.lanes])

    @cached_property
    def tails(self) -> np.ndarray:
        """Hours that must follow each task at least: its longest chain of later tasks, each on its fastest lane."""
        return np.array([self._tail[t.path] for t in self.tasks])

    @cached_property
    def heads(self) -> np.ndarray:
        """Hours that must come before each task at least."""
        fastest = self._fastest
        found: dict[str, float] = {}
        for task in _ordered((*self.tasks, *self.light)):
            found[task.path] = max((found[p] + fastest[p] for p in task.after if p in found), default=0.0)
        return np.array([found[t.path] for t in self.tasks])

    @cached_property
    def _fastest(self) -> dict[str, float]:
        best = {t.path: float(h) for t, h in zip(self.tasks, self.hours.min(axis=1))} if self.tasks else {}
        return best | {t.path: t.hours for t in self.light}

    @cached_property
    def _tail(self) -> dict[str, float]:
        tail = {t.path: 0.0 for t in (*self.tasks, *self.light)}
        for task in reversed(_ordered((*self.tasks, *self.light))):
            for before in task.after:
                if before in tail:
                    tail[before] = max(tail[before], tail[task.path] + self._fastest[task.path])
        return tail

    @property
    def chained(self) -> bool:
        """Whether a training waits for another one."""
        own = {t.path for t in self.tasks}
        return any(before in own for t in self.tasks for before in t.after)


def wall(lane: Lane, work: float) -> float:
    """Hours from now until `work` hours are done on a lane; inf when its session ends before and it does not come back."""
    if work <= 0:
        return lane.joins
    if work <= lane.useful + 1e-9:
        return lane.joins + work
    if not np.isfinite(lane.pause) or lane.later <= 0:
        return np.inf
    return lane.joins + work + lane.pause * np.ceil((work - lane.useful) / lane.later - 1e-9)


def build(
    tasks: list[Task], machines: Machines, speeds: dict[str, float] | None = None, extra: dict[str, Machine] | None = None
) -> Problem:
    """The problem of doing `tasks` on `machines` (and `extra` ones). `speeds` corrects machines by name. Raises NoPlan."""
    from trainyard.plan.complete import completed

    if not tasks:
        raise NoPlan("there is nothing to plan: every run is done")
    _ordered(tuple(tasks))
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


def _ordered(tasks: tuple[Task, ...]) -> list[Task]:
    """Tasks so that each comes after what it waits for. Raises NoPlan on a circle."""
    by_path = {t.path: t for t in tasks}
    done: dict[str, int] = {}
    out: list[Task] = []
    for root in tasks:
        stack = [(root, iter(root.after))]
        if done.get(root.path):
            continue
        done[root.path] = 1
        while stack:
            task, waiting = stack[-1]
            for path in waiting:
                if path not in by_path or done.get(path) == 2:
                    continue
                if done.get(path) == 1:
                    names = [t.path for t, _ in stack]
                    raise NoPlan(f"these runs wait for each other: {' → '.join([*names[names.index(path) :], path])}")
                done[path] = 1
                stack.append((by_path[path], iter(by_path[path].after)))
                break
            else:
                done[task.path] = 2
                out.append(task)
                stack.pop()
    return out
