"""TIES: trim small values, elect a sign for each entry, average those that have it (Yadav et al., 2023, arXiv:2306.01708).

On the updates B·A, where signs mean something: those of the factors do not. Trimming is per module. The paper's λ is 1;
weights scale both the election and the mean.
"""

from collections.abc import Callable

import numpy as np

from trainyard.lora.low_rank import Layer
from trainyard.lora.strategies.known import Known
from trainyard.lora.strategies.trim import thresholds


def shares(known: Known) -> np.ndarray:
    return known.weighed()


def merger(layer: Layer, density: float, seed: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """A function of rows of all updates, (K, n, in), and of the first row's number; it needs neither that nor the seed."""
    least, weights = thresholds(layer, density), layer.shares.astype(np.float32)

    def merge(updates: np.ndarray, first: int) -> np.ndarray:
        updates *= np.abs(updates) >= least
        elected = np.sign(np.tensordot(weights, updates, 1))
        total, count = np.zeros_like(elected), np.zeros_like(elected)
        for weight, update in zip(weights, updates):
            update *= elected
            np.maximum(update, 0, out=update)  # what has the elected sign, as magnitudes
            total += weight * update
            count += weight * (update > 0)
        return elected * np.divide(total, count, out=total, where=count > 0)

    return merge
