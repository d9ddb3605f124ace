"""Magnitude pruning: keep the largest values of each update, then average (Han et al., 2015, arXiv:1506.02626).

On the updates B·A, per module; what is cut is not made up for.
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
        return np.tensordot(weights, updates, 1)

    return merge
