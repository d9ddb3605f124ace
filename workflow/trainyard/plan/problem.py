"""What is to be planned, as arrays: tasks × lanes. A lane is one slot of a machine and works on one training at a time."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trainyard.config.machines import Machine, labels_of


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
    work: str = ""  # what an epoch of it costs hangs on (config.work.work_of); empty where that is not known
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
        for task in ordered((*self.tasks, *self.light)):
            found[task.path] = max((found[p] + fastest[p] for p in task.after if p in found), default=0.0)
        return np.array([found[t.path] for t in self.tasks])

    @cached_property
    def _fastest(self) -> dict[str, float]:
        best = {t.path: float(h) for t, h in zip(self.tasks, self.hours.min(axis=1))} if self.tasks else {}
        return best | {t.path: t.hours for t in self.light}

    @cached_property
    def _tail(self) -> dict[str, float]:
        tail = {t.path: 0.0 for t in (*self.tasks, *self.light)}
        for task in reversed(ordered((*self.tasks, *self.light))):
            for before in task.after:
                if before in tail:
                    tail[before] = max(tail[before], tail[task.path] + self._fastest[task.path])
        return tail


def wall(lane: Lane, work: float) -> float:
    """Hours from now until `work` hours are done on a lane; inf when its session ends before and it does not come back."""
    if work <= 0:
        return lane.joins
    if work <= lane.useful + 1e-9:
        return lane.joins + work
    if not np.isfinite(lane.pause) or lane.later <= 0:
        return np.inf
    return lane.joins + work + lane.pause * np.ceil((work - lane.useful) / lane.later - 1e-9)


def ordered(tasks: tuple[Task, ...]) -> list[Task]:
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
