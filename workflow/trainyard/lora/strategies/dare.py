"""DARE: drop values at random and rescale the rest by 1 / density, then average (Yu et al., 2023, arXiv:2311.03099).

On the updates B·A. A value stays with probability `density`, so the expected result is the weighted mean. The same seed
gives the same result on every machine.
"""

from collections.abc import Callable

import numpy as np

from trainyard.data.files import stable_seed
from trainyard.lora.low_rank import Layer
from trainyard.lora.strategies.known import Known


def shares(known: Known) -> np.ndarray:
    return known.weighed()


def merger(layer: Layer, density: float, seed: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """A function of rows of all updates, (K, n, in), and of the first row's number, which with seed and module decides what is dropped."""

    module = stable_seed(layer.name)

    def merge(updates: np.ndarray, first: int) -> np.ndarray:
        total = np.zeros(updates.shape[1:], np.float32)
        for k, (update, share) in enumerate(zip(updates, layer.shares)):
            update *= np.random.default_rng([seed, module, k, first]).random(update.shape, np.float32) < density
            total += update * np.float32(share / density)
        return total

    return merge
