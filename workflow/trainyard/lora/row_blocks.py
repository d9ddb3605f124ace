"""The best low-rank approximation of a matrix that is known by blocks of rows and never held whole.

Subspace iteration (Halko, Martinsson and Tropp, 2011, arXiv:0909.4061): every pass over the rows multiplies by MᵀM. The
error is exact whatever the subspace: the result is the projection M·V·Vᵀ on its r best directions, so its squared
distance to M is ‖M‖² − ‖M·V‖².
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Blocks = Callable[[], Iterator[tuple[slice, np.ndarray]]]
PASSES = 2
SPARE = 8


@dataclass(frozen=True)
class Approximation:
    """`a` (rank, in), `b` (out, rank); squared norms of the matrix and of what is left out."""

    a: np.ndarray
    b: np.ndarray
    squared_norm: float
    squared_error: float


def approximate(blocks: Blocks, rows: int, start: np.ndarray, rank: int) -> Approximation:
    """`blocks` yields the rows' slice and the rows, float32; `start`: (n, in), directions to begin with, spare random ones are added."""
    width = start.shape[1]
    spare = np.random.default_rng(0).normal(size=(SPARE + max(0, rank - len(start)), width))
    basis = np.linalg.qr(np.concatenate([start, spare * np.abs(start).mean()])[: max(1, width)].T)[0]
    for _ in range(PASSES):
        image = np.zeros(basis.shape)
        narrow = basis.astype(np.float32)
        for _, block in blocks():
            image += block.T @ (block @ narrow)
        basis = np.linalg.qr(image)[0]
    projected, squares = np.zeros((rows, basis.shape[1])), 0.0
    for place, block in blocks():
        wide = block.astype(np.float64)
        projected[place] = wide @ basis
        squares += float(np.vdot(wide, wide))
    values, vectors = np.linalg.eigh(projected.T @ projected)
    top = np.argsort(values)[::-1][:rank]
    size = np.maximum(values[top], 0.0) ** 0.25
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    a, b = (vectors[:, top] * size).T @ basis.T, projected @ (vectors[:, top] * inverse)
    short = rank - len(a)
    if short > 0:
        a, b = np.pad(a, ((0, short), (0, 0))), np.pad(b, ((0, 0), (0, short)))
    return Approximation(a, b, squares, max(0.0, squares - float(np.maximum(values[top], 0.0).sum())))
