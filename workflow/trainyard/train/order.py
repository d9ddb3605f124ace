"""Which item comes when, and the seed of each: pure functions of the run's seed, so that a resume needs no state."""

import numpy as np

from trainyard.data.files import stable_seed


def epoch_order(items: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the items for one epoch (from 0), shape (items,): each exactly once."""
    return np.random.default_rng(stable_seed("order", seed, epoch)).permutation(items)


def item_seeds(indices: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """A seed for each item in this epoch, shape (n,), int64 ≥ 0 (splitmix64 of its index, offset by run and epoch)."""
    with np.errstate(over="ignore"):
        z = np.asarray(indices, np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(stable_seed("item", seed, epoch))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
