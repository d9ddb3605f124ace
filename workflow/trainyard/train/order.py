"""Which item comes when, and the seed of each: pure functions of the run's seed, so that a resume needs no state."""

import numpy as np

from trainyard.data.files import stable_seed


def epoch_order(items: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the items for one epoch (from 0), shape (items,): each exactly once."""
    return np.random.default_rng(stable_seed("order", seed, epoch)).permutation(items)


def step_ends(samples: np.ndarray, per_step: int) -> np.ndarray:
    """Where each optimiser step of an epoch ends in its order of items, (steps,). `samples` (m,): how many each item holds.

    As many steps as there would be with a sample an item, each as near to `per_step` samples as whole items allow.
    """
    total, items = np.cumsum(samples), len(samples)
    steps = steps_an_epoch(samples, per_step)
    number = np.arange(1, steps + 1)
    wanted = np.minimum(per_step * number, total[-1])
    ends = np.searchsorted(total, wanted) + 1  # the first item that reaches the number, or the one before where that is nearer
    before = np.where(ends > 1, total[ends - 2], 0)
    ends -= (ends > 1) & (wanted - before < total[ends - 1] - wanted)
    ends[-1] = items
    # At least one item a step.
    return np.minimum(np.maximum.accumulate(ends - number) + number, items - steps + number)


def steps_an_epoch(samples: np.ndarray, per_step: int) -> int:
    """Optimiser steps of an epoch: `per_step` samples each, where an item does not hold more than that."""
    return min(len(samples), -(-int(np.sum(samples)) // per_step))


def item_seeds(indices: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """A seed for each item in this epoch, shape (n,), int64 ≥ 0 (splitmix64 of its index, offset by run and epoch)."""
    with np.errstate(over="ignore"):
        z = np.asarray(indices, np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(stable_seed("item", seed, epoch))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
