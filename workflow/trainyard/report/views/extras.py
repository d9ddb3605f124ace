"""What some runs have beside their scores: a tally of predictions, a promotion, pictures of attention."""

import math
from dataclasses import dataclass

import numpy as np


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
