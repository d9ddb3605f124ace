"""A training as the report shows it, its scores, and a model's runs gathered."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

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
    best_epoch: int | None = None  # lowest on validation
    kept_epoch: int | None = None  # whose weights are kept: the best one's, or with `select: last` the last one's
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
