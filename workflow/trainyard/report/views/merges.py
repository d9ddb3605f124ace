"""The merges of a model's adapters as the report shows them: the table of candidates, its limits, what the accepted one answers."""

from dataclasses import dataclass, field
from typing import Any


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
