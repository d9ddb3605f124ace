"""The learning rate at a step."""

import math


def rate_at(step: int, steps: int, peak: float, warmup: float, schedule: str) -> float:
    """Learning rate of optimiser step `step` (from 0) of `steps`: a linear rise over the share `warmup`, then
    cosine (https://arxiv.org/abs/1608.03983), linear or no decay to zero."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return peak * (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    return peak * (1 - done) if schedule == "linear" else peak
