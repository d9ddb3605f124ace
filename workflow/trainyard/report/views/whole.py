"""A suite, and all that one page shows."""

from dataclasses import dataclass, field
from typing import Any

from trainyard.report.views.data import Dataset, Preflight
from trainyard.report.views.extras import Attention, Promotion, Tally
from trainyard.report.views.merges import Merge
from trainyard.report.views.runs import Model, Run


@dataclass(frozen=True)
class Planned:
    """plan.json; and of its runs that are done since, by (suite, run): the hours they took, when they began, counted from the first of
    them, and the machine where (empty: none of the plan's)."""

    plan: dict[str, Any]
    taken: dict[tuple[str, str], float] = field(default_factory=dict)
    began: dict[tuple[str, str], float] = field(default_factory=dict)
    ran_on: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One job of the workflow; its times, where known (`timed`), are seconds since the first start, idle times cut out."""

    rule: str
    suite: str
    run: str
    state: str
    timed: bool = False
    start: float = 0.0
    end: float = 0.0
    attempts: int | None = None
    seconds: float | None = None
    machine: str = ""
    reason: str = ""
    log: str = ""


@dataclass(frozen=True)
class Suite:
    name: str
    title: str = ""
    models: tuple[Model, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    preflights: tuple[Preflight, ...] = ()
    merges: tuple[Merge, ...] = ()
    tallies: tuple[Tally, ...] = ()
    promotion: Promotion | None = None
    attention: tuple[Attention, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything one page shows. `problems` are files that could not be read."""

    suites: tuple[Suite, ...]
    jobs: tuple[Job, ...] = ()
    state: str = ""
    started: str = ""
    finished: str = ""
    command: str = ""
    built: str = ""
    idle: tuple[tuple[float, float], ...] = ()  # (when, seconds): times between two calls, cut out of the jobs' times
    plan: Planned | None = None
    partial: bool = False
    problems: tuple[str, ...] = ()

    @property
    def models(self) -> list[Model]:
        return [m for s in self.suites for m in s.models]

    @property
    def runs(self) -> list[Run]:
        return [r for m in self.models for r in m.runs]

    @property
    def other_failures(self) -> list[Job]:
        """Failed jobs that are no run's training: data, preflight, merge, …"""
        shown = {(r.suite, r.name) for r in self.runs if r.state == "failed"}
        return [j for j in self.jobs if j.state == "failed" and (j.suite, j.run) not in shown]
