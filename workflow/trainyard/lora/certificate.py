"""What a merge proves: how far the result is from the true mean, what rank would do, and how much the adapters agree.

All figures come from the factors' Gram matrices (see low_rank); only the agreement of signs looks at entries of the
updates, on a few rows of each layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainyard.lora.low_rank import Layer, rank_within

TOLERANCES = {"1%": 0.01, "0.1%": 0.001}
SIGN_VALUES, SIGN_ROWS = 4096, 1


@dataclass(frozen=True)
class LayerFigures:
    """What one layer adds to the certificate. `squares`: squared Frobenius norms and distances; `signs`: (2, K, K), of entries
    where neither of two updates is 0: how many there are, and in how many more the signs agree than differ."""

    name: str
    inner: np.ndarray
    spectrum: np.ndarray
    squares: dict[str, float]
    signs: np.ndarray
    values_looked_at: int
    rows_looked_at: int
    figures: dict[str, Any]


def measure(layer: Layer, rank: int, error: float, rounding: float, approximation: tuple[float, float] | None = None) -> LayerFigures:
    """Squared Frobenius distances: of the result as written to the true mean, and to what it was before it was rounded to its
    number type. `approximation`: the squared norm of what a strategy made that is not low rank, and of what the result leaves
    out of it."""
    spectrum, norm = layer.spectrum, layer.squared_norm
    figures = {
        "rank": rank, "norm": norm**0.5, "relative_error": _ratio(error, norm), "rounding_error": _ratio(rounding, norm),
        "rank_for": {name: rank_within([spectrum], t) for name, t in TOLERANCES.items()},
    }  # fmt: skip
    squares = {"norm": norm, "error": error, "rounding": rounding}
    if approximation is not None:
        squares |= {"strategy": approximation[0], "approximation": approximation[1]}
        figures["approximation_error"] = _ratio(approximation[1], approximation[0])
    count = min(layer.out_width, max(SIGN_ROWS, SIGN_VALUES // layer.in_width))
    step = layer.out_width // count
    updates = layer.rows(slice(step // 2, step // 2 + step * count, step)).reshape(len(layer.parts), -1)
    return LayerFigures(layer.name, layer.inner, spectrum, squares, _signs(updates), updates.shape[1], count, figures)


class Measures:
    """Sums the figures of the layers."""

    def __init__(self, shares: Sequence[float] | np.ndarray):
        count = len(shares)
        self.inner, self.signs = np.zeros((count, count)), np.zeros((2, count, count))
        self.sampled, self.rows_looked_at = 0, 0
        self.squares = dict.fromkeys(("norm", "error", "rounding", "strategy", "approximation"), 0.0)
        self.spectra: list[np.ndarray] = []
        self.layers: dict[str, dict[str, Any]] = {}

    def add(self, layer: LayerFigures) -> None:
        self.inner += layer.inner
        self.signs += layer.signs
        self.sampled, self.rows_looked_at = self.sampled + layer.values_looked_at, self.rows_looked_at + layer.rows_looked_at
        self.spectra.append(layer.spectrum)
        for key, value in layer.squares.items():
            self.squares[key] += value
        self.layers[layer.name] = layer.figures

    def summary(self, rows: bool = False) -> dict[str, Any]:
        """`rows`: whether the strategy changed the updates, so that the result is an approximation of something else."""
        size, total = np.sqrt(np.maximum(np.diag(self.inner), 0)), self.squares
        scale = np.outer(size, size)
        cosine = np.divide(self.inner, scale, out=np.zeros_like(scale), where=scale > 0)
        np.fill_diagonal(cosine, np.where(size > 0, 1.0, 0.0))
        found = {
            "relative_error": _ratio(total["error"], total["norm"]),
            "rounding_error": _ratio(total["rounding"], total["norm"]),
            "rank_for": {name: rank_within(self.spectra, t) for name, t in TOLERANCES.items()},
            "delta_norms": [float(x) for x in size],
            "cosine": _rounded(cosine),
            "sign_agreement": _rounded(self._sign_agreement()),
            "signs_looked_at": f"{self.sampled:,} values in {self.rows_looked_at:,} rows, evenly spaced in every layer",
            "layers": self.layers,
        }
        return found | ({"approximation_error": _ratio(total["approximation"], total["strategy"])} if rows else {})

    def _sign_agreement(self) -> np.ndarray:
        """Share of the entries, among those where neither is 0, where two updates have one sign; 0.5 by chance."""
        both, more = self.signs
        return np.divide(both + more, 2 * both, out=np.zeros_like(both), where=both > 0)


def _signs(updates: np.ndarray) -> np.ndarray:
    """Of (K, n) values, what LayerFigures keeps of their signs. Counts are whole in float32 up to 16 million."""
    signs = np.sign(updates)
    more = signs @ signs.T
    if (np.diag(more) == updates.shape[1]).all():
        return np.stack([np.full_like(more, updates.shape[1]), more])
    there = np.abs(signs)
    return np.stack([there @ there.T, more])


def _ratio(error: float, norm: float) -> float:
    return float(np.sqrt(error / norm)) if norm > 0 else 0.0


def _rounded(matrix: np.ndarray) -> list[list[float]]:
    return [[round(float(x), 6) for x in row] for row in matrix]
