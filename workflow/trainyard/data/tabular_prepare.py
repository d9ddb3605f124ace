"""From raw columns to inputs of a model: fitted on training rows alone, shared by the models and their baselines."""

from dataclasses import dataclass
from typing import Any

import numpy as np

CLIP = 6.0


@dataclass(frozen=True)
class Preparation:
    """Median imputation with missing indicators, scaling, clipping to ±6 deviations, one-hot categories.

    `median`, `mean`, `scale` (d,): of the numeric columns. `holes` (d,) bool: columns with missing values in training,
    each of which gets an indicator. `sizes`: values of each category; a missing or unseen one is all zeros.
    """

    median: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    holes: np.ndarray
    sizes: tuple[int, ...]

    @classmethod
    def fit(cls, pack: Any, rows: np.ndarray) -> "Preparation":
        """From the training rows of a tabular pack."""
        x = np.array(pack.fixed("numeric")[rows], np.float64)
        missing = np.isnan(x)
        known = ~missing.all(0)
        median = np.zeros(x.shape[1])
        median[known] = np.nanmedian(x[:, known], axis=0)
        filled = np.where(missing, median, x)
        scale = filled.std(0)
        # A column that is constant here says nothing: with its scale 1 it is 0 wherever it keeps its value.
        scale[scale <= 1e-9 * np.maximum(1.0, np.abs(median))] = 1.0
        sizes = tuple(len(values) for values in pack.meta["categorical"].values())
        return cls(median, filled.mean(0), scale, np.asarray(missing.any(0) & known), sizes)

    @property
    def width(self) -> int:
        """Inputs that `apply` returns for a row."""
        return len(self.median) + int(self.holes.sum()) + sum(self.sizes)

    def apply(self, numeric: np.ndarray, category: np.ndarray) -> np.ndarray:
        """numeric (n, d) with NaN and category (n, c) with -1 → (n, width) float64."""
        missing = np.isnan(numeric)
        x = np.clip((np.where(missing, self.median, numeric) - self.mean) / self.scale, -CLIP, CLIP)
        hot = [(category[:, i, None] == np.arange(size)).astype(np.float64) for i, size in enumerate(self.sizes)]
        return np.concatenate([x, missing[:, self.holes].astype(np.float64), *hot], axis=1)
