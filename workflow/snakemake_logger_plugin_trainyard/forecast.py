"""How long jobs will take, and with them the rest of the DAG: from what they took before, never from a guess dressed as a figure."""

import csv
import heapq
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from snakemake_logger_plugin_trainyard.jobs import Job
from snakemake_logger_plugin_trainyard.readable import setting_changes
from snakemake_logger_plugin_trainyard.words import span

# How far off each source was found to be, as factors on its figure: the same job before; its rule's others; its owners' word.
BEFORE = (0.8, 1.25)
ALIKE = (0.4, 2.5)
STATED = (0.6, 1.6)
SIMULATED = 3000  # jobs; above, the sum over the cores is as good


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
class Planned:
    """What the configuration says of a run: hours that its owners state; its model, or those that a promoted run may go on with; and
    how much of such a model's time it takes."""

    hours: float | None
    models: tuple[str, ...] = ()
    share: float = 1.0


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
        seconds = _benchmark(job.benchmark)
        if seconds is None:
            seconds = self.took.get(job.key)
        training = job.rule.startswith("train") and job.suite and job.run
        if training:
            # Whatever was timed last may have been the rest of an interrupted training; its own file counts all of it.
            whole = _train_seconds(self.results / str(job.suite), str(job.run))
            seconds = max((s for s in (seconds, whole) if s is not None), default=None)
        if seconds is not None:
            scale = _more_epochs(job.why)
            return Estimate(seconds * scale * BEFORE[0], seconds * scale * BEFORE[1], "before")
        planned = self.planned.get((job.suite, job.run)) if training else None
        if planned is None:
            return None
        foreseen = [f for model in planned.models if (f := _foreseen(self.results / str(job.suite) / "preflight" / f"{model}.json"))]
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


def makespan(jobs: list[Job], seconds: dict[int, float], cores: int, elsewhere: bool = False) -> float:
    """Wall time if jobs start as soon as their inputs and cores are there; longest first. Running ones hold their cores already.
    `elsewhere`: each job counts as one of `cores`."""
    cores = max(1, cores)
    width = {job.jobid: 1 if elsewhere else min(job.threads, cores) for job in jobs}
    if len(jobs) > SIMULATED:
        work = sum(seconds[j.jobid] * width[j.jobid] for j in jobs) / cores
        return max([work, *seconds.values()])
    ids = {job.jobid for job in jobs}
    needs = {job.jobid: {d for d in job.depends if d in ids} for job in jobs}
    wanted_by: dict[int, list[int]] = {}
    for jobid, others in needs.items():
        for other in others:
            wanted_by.setdefault(other, []).append(jobid)
    ready = [(job.state != "running", -seconds[job.jobid], job.jobid) for job in jobs if not needs[job.jobid]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now, free = 0.0, cores
    while ready or running:
        later = []
        while ready:
            entry = heapq.heappop(ready)
            threads = width[entry[2]]
            if threads <= free:
                free -= threads
                heapq.heappush(running, (now + seconds[entry[2]], entry[2]))
            else:
                later.append(entry)
        for entry in later:
            heapq.heappush(ready, entry)
        if not running:
            break
        now, jobid = heapq.heappop(running)
        free += width[jobid]
        for other in wanted_by.get(jobid, []):
            needs[other].discard(jobid)
            if not needs[other]:
                heapq.heappush(ready, (True, -seconds[other], other))
    return now


def planned_runs(config: dict[str, Any], home: str | None) -> dict[tuple, Planned]:
    """What the suites say of their runs, by (suite, run); empty where the configuration is not Trainyard's."""
    try:
        from trainyard.config import list_runs, list_slots, load_config

        loaded = load_config(config, Path(home or "."))
        found = {}
        for run in list_runs(loaded) + list_slots(loaded):
            suite = loaded.suites[run.suite]
            models = tuple(dict.fromkeys(r.model for r in run.of or (run,)))
            # A promoted run goes on from where its short training ended.
            share = suite.promote.to_epochs / suite.promote.from_epochs - 1 if run.of and suite.promote else 1.0
            hours = [suite.models[m].hours for m in models]
            known = max((h for h in hours if h), default=None) if all(hours) else None
            found[run.suite, run.name] = Planned(known * share if known else None, models, share)
        return found
    except Exception:
        return {}


def _benchmark(path: str | None) -> float | None:
    """Mean seconds of Snakemake's benchmark table."""
    if not path:
        return None
    try:
        with open(path, encoding="utf-8", newline="") as file:
            values = [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return sum(values) / len(values) if values else None


def _train_seconds(suite: Path, run: str) -> float | None:
    """Seconds that a training took with all its attempts; of a promoted run, those after its short training."""
    try:
        train = _read_json(suite / "runs" / run / "train.json")
        seconds = float(train["train_info"]["seconds"])
        if "promoted" not in train.get("meta_info", {}).get("report", {}):
            return seconds
        decision = _read_json(suite / "promotion.json")
        return seconds * (1 - decision["from_epochs"] / decision["to_epochs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _foreseen(preflight: Path) -> tuple[float, float] | None:
    """Seconds, low and high, that a preflight measured a training to need on this machine."""
    try:
        prediction = _read_json(preflight)["prediction"]
        return 60 * float(prediction["low"]), 60 * float(prediction["high"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _more_epochs(why: str) -> float:
    """How much longer a job takes because its number of epochs changed."""
    for name, before, after in setting_changes(why):
        if name == "epochs" and re.fullmatch(r"\d+", before) and re.fullmatch(r"\d+", after) and int(before):
            return int(after) / int(before)
    return 1.0
