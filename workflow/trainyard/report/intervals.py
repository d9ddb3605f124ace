"""Intervals by a cluster bootstrap: whole groups (patients, singers, songs) are drawn, never single samples.

Samples of a group resemble each other, so drawing samples would claim more evidence than there is. Percentile
intervals of 2,000 draws; with few groups (below about 20) they are too narrow, and the tables give the number of
groups. Davison & Hinkley 1997, https://doi.org/10.1017/CBO9780511802843; clusters: Field & Welsh 2007,
https://doi.org/10.1111/j.1467-9868.2007.00593.x
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainyard.report.metrics import Estimate

DRAWS = 2000
SEED = 20240229
MOST_ELEMENTS = 8_000_000
FEW_GROUPS = 10  # below it an interval is given with a warning
SURE = 0.975  # a one-sided 97.5 % says what a two-sided 95 % interval beside zero says


@dataclass(frozen=True)
class Interval:
    """A figure, its 95 % interval and its standard error; `p_better` (of a difference): share of draws above zero."""

    value: float
    low: float | None
    high: float | None
    sd: float | None
    p_better: float | None = None


def group_weights(groups: int, draws: int = DRAWS, seed: int = SEED) -> Iterator[np.ndarray]:
    """How often each group is drawn, (some draws, groups), block by block; every row sums to `groups`."""
    rng = np.random.default_rng([seed, groups])
    step = max(1, MOST_ELEMENTS // max(groups, 1))
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        index = rng.integers(0, groups, (rows, groups)) + groups * np.arange(rows)[:, None]
        yield np.bincount(index.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)


def draw(estimates: Sequence[Estimate], groups: int, draws: int = DRAWS, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Plain values (m,) of m estimates and their draws (draws, m), all on the same groups, so that they pair."""
    ones = np.ones((1, groups))
    plain = np.array([float(e(ones)[0]) for e in estimates])
    if groups < 2:
        return plain, np.full((0, len(estimates)), np.nan)
    blocks = [np.stack([e(w) for e in estimates], axis=1) for w in group_weights(groups, draws, seed)]
    return plain, np.concatenate(blocks)


def interval(value: float, draws: np.ndarray, difference: bool = False) -> Interval:
    """From draws (n,); those in which the figure does not exist (one class only) are left out, if they are few."""
    known = draws[np.isfinite(draws)]
    if len(known) < max(2, 0.8 * len(draws)):
        return Interval(value, None, None, None)
    low, high = np.quantile(known, [0.025, 0.975])
    better = float(np.mean(known > 0) + 0.5 * np.mean(known == 0)) if difference else None
    return Interval(value, float(low), float(high), float(known.std(ddof=1)), better)


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of independent values; None for fewer than two.

    Folds share most of their training rows, so over folds it is a convention, not a guarantee (Bengio & Grandvalet
    2004, https://www.jmlr.org/papers/v5/grandvalet04a.html).
    """
    n = len(values)
    if n < 2:
        return None
    half = t_quantile(0.975, n - 1) * float(np.std(values, ddof=1)) / n**0.5
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def t_quantile(p: float, degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, p))


def t_probability(t: float, degrees: float) -> float:
    """P(T < t) of Student's t."""
    from scipy.special import stdtr

    return float(stdtr(degrees, t))


def normal_probability(z: float) -> float:
    """P(Z < z)."""
    from math import erf, sqrt

    return 0.5 * (1 + erf(z / sqrt(2)))
