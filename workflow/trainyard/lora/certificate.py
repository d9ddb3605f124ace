"""What a merge proves: how far the result is from the true mean, and how much the adapters agree.

All figures come from the Gram matrices of the concatenated factors, K·r on a side: with Δ = B·A,
⟨Δi, Δj⟩ = Σ (Bᵢᵀ·Bⱼ) ∘ (Aᵢ·Aⱼᵀ), so no matrix of the base's size is ever formed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Agreement:
    """Collects, layer by layer, inner products of the adapters' deltas and the error of the merged one."""

    def __init__(self, weights: Sequence[float] | np.ndarray):
        self.weights = np.asarray(weights, np.float64)
        self.inner = np.zeros((len(self.weights),) * 2)
        self.error = self.norm = 0.0
        self.layers: dict[str, dict[str, float]] = {}

    def add(self, module: str, grams: tuple[np.ndarray, np.ndarray], merged: tuple[np.ndarray, np.ndarray] | None,
            true: tuple[np.ndarray, np.ndarray]) -> None:  # fmt: skip
        """`grams`: (K, r, K, r) of the scaled B and of A. `true`: A (R, in) and B (out, R) of the weighted sum, B scaled
        and weighted; `merged`: the same of the result as written, B scaled, or None for one adapter copied."""
        gram_b, gram_a = grams
        inner = np.einsum("irjs,irjs->ij", gram_b, gram_a)
        self.inner += inner
        norm = float(self.weights @ inner @ self.weights)
        error = 0.0 if merged is None else squared_error(*merged, *true)
        self.norm, self.error = self.norm + norm, self.error + error
        self.layers[module] = {"relative_error": _ratio(error, norm), "norm": float(np.sqrt(max(norm, 0.0)))}

    def summary(self) -> dict[str, Any]:
        size = np.sqrt(np.maximum(np.diag(self.inner), 0))
        scale = np.outer(size, size)
        cosine = np.divide(self.inner, scale, out=np.zeros_like(scale), where=scale > 0)
        np.fill_diagonal(cosine, np.where(size > 0, 1.0, 0.0))
        return {
            "relative_error": _ratio(self.error, self.norm),
            "delta_norms": [float(x) for x in size],
            "cosine": [[round(float(x), 6) for x in row] for row in cosine],
            "layers": self.layers,
        }


def squared_error(a: np.ndarray, b: np.ndarray, true_a: np.ndarray, true_b: np.ndarray) -> float:
    """‖b·a − true_b·true_a‖² (Frobenius). Where both share A, only the difference of B enters, and nothing cancels."""
    if a.shape == true_a.shape and np.array_equal(a, true_a):
        left, right = b.astype(np.float64) - true_b, a.astype(np.float64)
    else:
        left, right = np.concatenate([b, -true_b], 1).astype(np.float64), np.concatenate([a, true_a], 0).astype(np.float64)
    return max(0.0, float(np.sum((left.T @ left) * (right @ right.T))))


def _ratio(error: float, norm: float) -> float:
    return float(np.sqrt(error / norm)) if norm > 0 else 0.0
