"""Sums of products B·A without a matrix of the base's size: all figures come from Gram matrices of the factors.

With Δ = B·A, ⟨Δi, Δj⟩ = Σ (Bᵢᵀ·Bⱼ) ∘ (Aᵢ·Aⱼᵀ). With BᵀB = R·Rᵀ the singular values of B·A are the roots of the
eigenvalues of Rᵀ·(A·Aᵀ)·R, and the best approximation of a rank is made of the largest (Eckart and Young, 1936).
All in float64, where what a square loses stays below 1e-8 of the largest singular value.
"""

from functools import cached_property

import numpy as np


class Layer:
    """One module's factors from all adapters. `parts`: A (r, in) and B (out, r) of each; `scales`, `shares`: (K,)."""

    def __init__(self, name: str, parts: list[tuple[np.ndarray, np.ndarray]], scales: np.ndarray, shares: np.ndarray):
        self.name, self.parts, self.scales, self.shares = name, parts, scales, shares
        self.a = np.concatenate([a for a, _ in parts], dtype=np.float64)
        self.b = np.concatenate([b for _, b in parts], 1, dtype=np.float64)
        # Which adapter a row of A and a column of B belong to, (K, R), and the weight of each in the mean, (R,).
        self.owner = np.repeat(np.eye(len(parts)), [len(a) for a, _ in parts], 1)
        self.weights = (scales * shares) @ self.owner

    @property
    def out_width(self) -> int:
        return self.b.shape[0]

    @property
    def in_width(self) -> int:
        return self.a.shape[1]

    @cached_property
    def gram_a(self) -> np.ndarray:
        return self.a @ self.a.T

    @cached_property
    def gram_b(self) -> np.ndarray:
        return self.b.T @ self.b

    @cached_property
    def inner(self) -> np.ndarray:
        """⟨Δi, Δj⟩ of the adapters, (K, K)."""
        scaled = self.owner * self.scales[:, None]
        return scaled @ (self.gram_a * self.gram_b) @ scaled.T

    def mean(self, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Σ wᵢ Δi / scale as it is: A (R, in) and B (out, R) of the adapters that count."""
        counts, weights = self.counting, self.weights / scale
        return (self.a, self.b * weights) if counts.all() else (self.a[counts], self.b[:, counts] * weights[counts])

    @property
    def counting(self) -> np.ndarray:
        """Which rows of A and columns of B have a weight, (R,)."""
        return self.weights > 0

    def rows(self, place: slice) -> np.ndarray:
        """Rows of every adapter's update, (K, n, in), float32."""
        scaled = [(b[place] * s).astype(np.float32) for (_, b), s in zip(self.parts, self.scales)]
        return np.stack([b @ a.astype(np.float32, copy=False) for b, (a, _) in zip(scaled, self.parts)])

    @property
    def squared_norm(self) -> float:
        """‖Σ wᵢ Δi‖² (Frobenius)."""
        return max(0.0, float(self.shares @ self.inner @ self.shares))

    @cached_property
    def root(self) -> tuple[np.ndarray, np.ndarray]:
        """R and R⁻ᵀ (both (R, k)) of the weighted B's Gram matrix; directions of no length are left out."""
        return square_root(self.gram_b * np.outer(self.weights, self.weights))

    @cached_property
    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared singular values of the mean, largest first, and their vectors in the coordinates of the root."""
        root, _ = self.root
        squares, vectors = np.linalg.eigh(root.T @ self.gram_a @ root)
        return np.maximum(squares[::-1], 0.0), vectors[:, ::-1]

    @property
    def spectrum(self) -> np.ndarray:
        """Squared singular values of the mean, largest first; no more than the layer has, and at least one."""
        squares = self.eigen[0][: min(self.in_width, self.out_width)]
        return squares if len(squares) else np.zeros(1)

    def best(self, rank: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """The best approximation of Σ wᵢ Δi / scale of a rank: A (rank, in) and B (out, rank); zeros beyond its own rank."""
        root, inverse = self.root
        squares, vectors = self.eigen
        size = squares[:rank][squares[:rank] > 0] ** 0.25
        vectors = vectors[:, : len(size)]
        a = (vectors / size).T @ root.T @ self.a
        b = self.b @ (self.weights[:, None] * (inverse @ vectors) * (size / scale))
        short = rank - len(a)
        return (np.pad(a, ((0, short), (0, 0))), np.pad(b, ((0, 0), (0, short)))) if short else (a, b)

    def squared_rest(self, rank: int) -> float:
        """‖Σ wᵢ Δi − its best approximation of a rank‖², from the norm, so that nothing the root left out is forgotten. Resolves as
        squared_distance does."""
        return max(0.0, self.squared_norm - float(self.eigen[0][:rank].sum()))

    def squared_distance(self, a: np.ndarray, b: np.ndarray) -> float:
        """‖b·a − Σ wᵢ Δi‖². Resolves a difference of 1e-8 of the norm."""
        own = np.sum((b.T @ b) * (a @ a.T))
        shared = np.sum((b.T @ self.b * self.weights) * (a @ self.a.T))
        return max(0.0, float(own - 2 * shared + self.squared_norm))


def square_root(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R with gram = R·Rᵀ, and R⁻ᵀ: by Cholesky where the matrix is far from singular, else by eigenvectors."""
    size = np.sqrt(np.maximum(np.diag(gram), 0.0))
    try:
        root = np.linalg.cholesky(gram)
        if np.diag(root).min() > 1e-4 * size.max(initial=0.0):
            return root, np.linalg.inv(root).T
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(gram)
    keep = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    length = np.sqrt(values[keep])
    return vectors[:, keep] * length, vectors[:, keep] / length


def squared_change(a: np.ndarray, b: np.ndarray, old_a: np.ndarray, old_b: np.ndarray) -> float:
    """‖b·a − old_b·old_a‖² of factors that hardly differ: ‖(b − old_b)·old_a + b·(a − old_a)‖², so nothing cancels."""
    more_a, more_b, b = a - old_a, b - old_b, b.astype(np.float64)
    square = np.vdot(more_b.T @ more_b, old_a @ old_a.T) + np.vdot(b.T @ b, more_a @ more_a.T)
    return max(0.0, float(square + 2 * np.vdot(more_b.T @ b, old_a @ more_a.T)))


def squared_change_of_b(b: np.ndarray, old_b: np.ndarray, gram_a: np.ndarray) -> float:
    """The same where A did not change, from its Gram matrix. A difference needs no more than float32."""
    left = old_b - b
    largest = max(float(left.max()), -float(left.min()), 1e-300)
    left = (left / largest).astype(np.float32)
    return max(0.0, float(np.vdot(left.T @ left, gram_a))) * largest**2


def rank_within(spectra: list[np.ndarray], tolerance: float) -> int:
    """The smallest rank whose best approximation of all layers together has a relative error within the tolerance."""
    energy = np.zeros(max(len(s) for s in spectra))
    for spectrum in spectra:
        energy[: len(spectrum)] += spectrum
    left = np.append(np.cumsum(energy[::-1])[::-1], 0.0)  # left[r]: what a rank of r leaves out
    return max(1, int(np.argmax(left <= tolerance**2 * left[0])))
