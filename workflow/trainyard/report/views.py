"""What the report shows, as plain objects: read from the results folder by collect, drawn by page and status_page."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainyard.report.intervals import SURE

METRICS = {"auc": "AUC", "r2": "R²", "rmse": "RMSE", "mae": "MAE", "nll": "NLL", "macro_f1": "macro F1", "log_loss": "log loss"}


@dataclass(frozen=True)
class Difference:
    """How much better a model is than a baseline (positive: better, whatever the metric's direction)."""

    value: float | None
    low: float | None = None
    high: float | None = None
    p_better: float | None = None

    @property
    def verdict(self) -> str:
        """better or worse where the 95 % interval leaves zero out; else unclear; unknown without figures."""
        if self.low is not None and self.high is not None:
            return "better" if self.low > 0 else "worse" if self.high < 0 else "unclear"
        if self.p_better is not None:
            return "better" if self.p_better >= SURE else "worse" if self.p_better <= 1 - SURE else "unclear"
        return "unknown"


@dataclass(frozen=True)
class Score:
    """One metric of one part on one split, of a run or of a model's gathered runs (then `run` is empty)."""

    suite: str
    model: str
    run: str
    part: str
    split: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    direction: str = "max"
    kind: str = ""
    n: int | None = None
    groups: int | None = None
    runs: int = 1
    spread: float | None = None
    basis: str = ""  # what the interval of a gathered score rests on
    trivial_name: str = ""
    trivial: float | None = None
    simple_name: str = ""
    simple: float | None = None
    vs_trivial: Difference | None = None
    vs_simple: Difference | None = None

    @property
    def called(self) -> str:
        return METRICS.get(self.metric, self.metric)

    @property
    def ahead(self) -> bool:
        """Whether the figure alone is better than the simple baseline's, without asking how sure that is."""
        if self.value is None or self.simple is None:
            return False
        return self.value > self.simple if self.direction == "max" else self.value < self.simple

    @property
    def label(self) -> str:
        return f"{self.part} {self.called}".strip()


@dataclass(frozen=True)
class History:
    """Loss by epoch; `best` is the epoch whose weights were kept."""

    epochs: tuple[float, ...]
    train: tuple[float | None, ...]
    validation: tuple[float | None, ...]
    best: int | None = None


@dataclass(frozen=True)
class Run:
    """One training, whatever became of it."""

    suite: str
    name: str
    model: str
    state: str
    reason: str = ""
    log: str = ""
    attempts: int | None = None
    seconds: float | None = None
    machine: str = ""
    parameters: int | None = None
    bytes: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    steps: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    history: History | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    headline: tuple[str, str, str] | None = None  # split, part, metric
    notes: tuple[str, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict, repr=False)  # metrics.json as it is


@dataclass(frozen=True)
class Model:
    """A model with its runs and the scores gathered over them; the first test score is the headline."""

    suite: str
    name: str
    runs: tuple[Run, ...]
    scores: tuple[Score, ...]
    headline: Score | None
    reason: str = ""
    log: str = ""

    @property
    def key(self) -> str:
        return f"{self.suite}-{self.name}"

    @property
    def states(self) -> Counter:
        return Counter(r.state for r in self.runs)

    @property
    def state(self) -> str:
        """The worst that happened: failed before running before missing; done only when every run is."""
        states = self.states
        return next((s for s in ("failed", "interrupted", "running", "missing", "skipped") if states[s]), "done")

    @property
    def seconds(self) -> float | None:
        known = [r.seconds for r in self.runs if r.seconds is not None]
        return sum(known) if known else None

    def _first(self, name: str) -> Any:
        return next((getattr(r, name) for r in self.runs if getattr(r, name) is not None), None)

    @property
    def parameters(self) -> int | None:
        return self._first("parameters")

    @property
    def bytes(self) -> int | None:
        return self._first("bytes")

    def parts(self, split: str = "test") -> list[Score]:
        return [s for s in self.scores if s.split == split]


@dataclass(frozen=True)
class Dataset:
    """What was used, what was refused and why, and whether groups are known."""

    suite: str
    name: str
    format: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    balance: dict[str, dict[str, int]] = field(default_factory=dict)
    folds: dict[str, int] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    groups_known: bool | None = None
    refused: tuple[tuple[str, str], ...] = ()
    lost: int = 0  # refused, without the duplicates that the same list names
    duplicates: int | None = None
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def reasons(self) -> list[tuple[str, int, list[str]]]:
        """Reasons with how many files each, most frequent first, and the files' names."""
        found: dict[str, list[str]] = {}
        for path, reason in self.refused:
            found.setdefault(reason, []).append(path)
        return sorted(((r, len(p), p) for r, p in found.items()), key=lambda row: (-row[1], row[0]))


@dataclass(frozen=True)
class Check:
    name: str
    state: str
    figure: str = ""
    limit: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Preflight:
    suite: str
    model: str
    verdict: str
    checks: tuple[Check, ...] = ()
    prediction: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Gate:
    """One acceptance limit: what it is, what was measured, whether it passed."""

    name: str
    figure: str
    limit: str
    passed: bool | None


@dataclass(frozen=True)
class Candidate:
    """A row of the merge table: the base, a shard or a merge."""

    name: str
    role: str
    figures: dict[str, float | None] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    state: str = ""
    reason: str = ""
    accepted: bool = False
    certificate: tuple[tuple[str, str], ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)  # the certificate as it was read


@dataclass(frozen=True)
class Sample:
    """A prompt, its answer, and the answer read as a plan where it is one."""

    prompt: str
    answer: str
    plan: dict[str, Any] | None = None
    checks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Rival:
    """What a merge is held against: that one's held-out loss less the merge's, with its 95 % interval."""

    name: str
    difference: float
    low: float | None
    high: float | None
    groups: int


@dataclass(frozen=True)
class Merge:
    suite: str
    model: str
    candidates: tuple[Candidate, ...] = ()
    accepted: str = ""
    reason: str = ""
    samples: tuple[Sample, ...] = ()
    decided: bool = False
    shown: str = ""
    rivals: tuple[Rival, ...] = ()


@dataclass(frozen=True)
class OverSeeds:
    """The merges of a model's seeds together: `figures` (mean, low, high) of those shown, and what they are held against, with
    `each` seed's own difference; the intervals are over seeds."""

    model: str
    merges: tuple[str, ...]
    kinds: str
    figures: dict[str, tuple[float, float | None, float | None]]
    rivals: tuple[Rival, ...]
    each: dict[str, tuple[float, ...]]


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
class Tally:
    """Predictions of a part, per class: counts[target][predicted], and (predicted share, true share, n) by bin."""

    suite: str
    model: str
    part: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    reliability: tuple[tuple[float, float, int], ...] = ()
    runs: int = 1


@dataclass(frozen=True)
class Promotable:
    """A run that may go on; `slot` is empty where it did not. Its chances are None where they cannot be known."""

    run: str
    slot: str
    value: float | None
    low: float | None
    high: float | None
    chance_best: float | None
    chance_among_kept: float | None


@dataclass(frozen=True)
class Promotion:
    """Which runs went on to the long training, on the validation split, and how sure that is."""

    metric: str
    direction: str
    from_epochs: int | None
    to_epochs: int | None
    groups: int | None
    chance_dropped_best: float | None
    candidates: tuple[Promotable, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attention:
    """What a run looks at in one sample. frames (t, 3, h, w) uint8; received (tokens,) and between (steps, steps) of the last layer."""

    run: str
    sample: str
    true: str
    told: str
    grid: tuple[int, int, int]
    frames: np.ndarray
    received: np.ndarray
    between: np.ndarray

    @property
    def whole(self) -> bool:
        steps = self.grid[0]
        fits = self.received.shape == (math.prod(self.grid),) and self.between.shape == (steps, steps)
        return bool(fits and self.frames.ndim == 4 and self.frames.shape[1] == 3 and np.isfinite(self.received).all())


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
