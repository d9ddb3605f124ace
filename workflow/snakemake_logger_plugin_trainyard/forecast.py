"""How long jobs will take, and with them the rest of the DAG: from what they took before, never from a guess dressed as a figure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from snakemake_logger_plugin_trainyard.jobs import Job
from snakemake_logger_plugin_trainyard.makespan import makespan
from snakemake_logger_plugin_trainyard.sources import (
    Planned,
    benchmark_seconds,
    foreseen_seconds,
    more_epochs,
    train_seconds,
    work_of_training,
)
from snakemake_logger_plugin_trainyard.words import span

# How far off each source was found to be, as factors on its figure: the same job before; its rule's others; its owners' word.
BEFORE = (0.8, 1.25)
ALIKE = (0.4, 2.5)
STATED = (0.6, 1.6)


@dataclass(frozen=True)
class Estimate:
    """Seconds: low, high; and where they come from: before, preflight, stated, alike or said (by the training itself)."""

    low: float
    high: float
    source: str = "before"

    @property
    def middle(self) -> float:
        return (self.low * self.high) ** 0.5 if self.low > 0 else self.high / 2


@dataclass(frozen=True)
class Outlook:
    """What is left of the DAG: wall time and work in seconds; jobs whose time nobody knows."""

    wall: tuple[float, float]
    work: tuple[float, float]
    known: int
    unknown: int

    def words(self) -> str:
        """`about 4–6 min left`, with `at least` where jobs are unknown; empty where too little is known."""
        if not self.known or self.unknown > 2 * self.known:
            return "time left not known yet" if self.unknown else ""
        least = "at least " if self.unknown else "about "
        return f"{least}{span(*self.wall)} left"


class Forecast:
    """Knows what jobs took before. `earlier` are the jobs of the summary before this call, `planned` what is said by (suite, run)."""

    def __init__(
        self, earlier: Iterable[dict[str, Any]] = (), results: Path = Path("results"), planned: dict[tuple, Planned] | None = None
    ) -> None:
        self.results = results
        self.planned = planned or {}
        self.took: dict[tuple, float] = {}
        self.alike: dict[str, list[float]] = {}
        self.known: dict[tuple, Estimate | None] = {}
        for entry in earlier:
            if entry.get("state") == "done" and isinstance(entry.get("seconds"), int | float):
                self.learn((entry["rule"], entry.get("suite"), entry.get("run")), float(entry["seconds"]))

    def learn(self, key: tuple, seconds: float) -> None:
        """A job took that long."""
        self.took[key] = seconds
        self.alike.setdefault(key[0], []).append(seconds)

    def estimate(self, job: Job) -> Estimate | None:
        """Seconds of a whole job, or None if nothing is known."""
        if job.key not in self.known:
            self.known[job.key] = self._own(job)
        own = self.known[job.key]
        if own is not None:
            return own
        alike = self.alike.get(job.rule)
        if alike:
            middle = median(alike)
            return Estimate(min(alike + [middle * ALIKE[0]]), max(alike + [middle * ALIKE[1]]), "alike")
        return None

    def _own(self, job: Job) -> Estimate | None:
        seconds = benchmark_seconds(job.benchmark)
        if seconds is None:
            seconds = self.took.get(job.key)
        training = job.rule.startswith("train") and job.suite and job.run
        planned = self.planned.get((job.suite, job.run)) if training else None
        if planned and not planned.like(work_of_training(self.results / str(job.suite), str(job.run))):
            seconds = None
        elif training:
            # Whatever was timed last may have been the rest of an interrupted training; its own file counts all of it.
            whole = train_seconds(self.results / str(job.suite), str(job.run))
            seconds = max((s for s in (seconds, whole) if s is not None), default=None)
        if seconds is not None:
            scale = more_epochs(job.why)
            return Estimate(seconds * scale * BEFORE[0], seconds * scale * BEFORE[1], "before")
        if planned is None:
            return None
        folder = self.results / str(job.suite) / "preflight"
        foreseen = [f for model in planned.models if (f := foreseen_seconds(folder / f"{model}.json", planned.like))]
        if foreseen and len(foreseen) == len(planned.models):
            low, high = max(low for low, _ in foreseen), max(high for _, high in foreseen)
            return Estimate(low * planned.share, high * planned.share, "preflight")
        hours = planned.hours
        return Estimate(hours * 3600 * STATED[0], hours * 3600 * STATED[1], "stated") if hours else None

    def outlook(
        self,
        jobs: list[Job],
        cores: int,
        now: float,
        said: Callable[[Job], tuple[float, float] | None] = lambda _: None,
        elsewhere: bool = False,
    ) -> Outlook:
        """What is left of `jobs`. `said` is what a running training itself gives as its seconds left; `elsewhere`: `cores` is a number
        of jobs, on machines whose cores are not known."""
        low: dict[int, float] = {}
        high: dict[int, float] = {}
        known = unknown = 0
        left = [j for j in jobs if j.state in ("waiting", "running", "retrying")]
        for job in left:
            if job.target:
                low[job.jobid] = high[job.jobid] = 0.0
                continue
            own = said(job) if job.state == "running" else None
            if own is None:
                estimate = self.estimate(job)
                if estimate is None:
                    unknown += 1
                    low[job.jobid] = high[job.jobid] = 0.0
                    continue
                spent = now - job.started if job.state == "running" and job.started else 0.0
                # A job over its time has some left, nobody knows how much: a tenth of what it took.
                own = max(0.0, estimate.low - spent), max(estimate.high - spent, 0.1 * spent if spent else 0.0)
            known += 1
            low[job.jobid], high[job.jobid] = own
        wall = (makespan(left, low, cores, elsewhere), makespan(left, high, cores, elsewhere))
        return Outlook(wall, (sum(low.values()), sum(high.values())), known, unknown)
