"""How long a training will take, with a range, and what bounds it: storage, decoding, or computing. Needs no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SLACK = (0.75, 1.6)  # other jobs beside it, a processor that is hot or cold: measured predictions were off by that much
SAVE_RATE = 150e6  # bytes a second of writing, hashing and syncing a checkpoint, on a plain disk
SAVE_LEAST = 0.01


@dataclass(frozen=True)
class Work:
    """What a run has to do. steps: optimiser steps an epoch; evaluations: validation batches an epoch."""

    epochs: int
    steps: int
    evaluations: int
    saves: int
    checkpoint_bytes: int
    pack_bytes: int


def forecast(work: Work, seconds: Sequence[float], loading: Sequence[float], evaluation: Sequence[float], rate: float,
             free_bytes: float) -> dict[str, Any]:  # fmt: skip
    """`seconds`: of a step, of which `loading` went into making its batches; `evaluation`: of a validation batch; `rate`: bytes a second
    that storage gives; `free_bytes`: memory that can hold the pack between epochs."""
    typical, load = float(np.median(seconds)), float(np.median(loading))
    share = min(1.0, load / typical) if typical else 0.0
    stepping = work.epochs * (work.steps * typical + work.evaluations * float(np.median(evaluation)))
    # A pack that memory holds is read once; a larger one again in every epoch.
    readings = 1 if work.pack_bytes < 0.8 * free_bytes else work.epochs
    parts = {
        "storage": readings * work.pack_bytes / rate if rate else 0.0,
        "decode": stepping * share,
        "compute": stepping * (1 - share),
        "saving": work.saves * max(SAVE_LEAST, work.checkpoint_bytes / SAVE_RATE),
    }
    total = sum(parts.values())
    low = total * SLACK[0] * min(1.0, float(np.quantile(seconds, 0.1)) / typical)
    high = total * SLACK[1] * max(1.0, float(np.quantile(seconds, 0.9)) / typical)
    return {
        "minutes": round(total / 60, 5), "low": round(low / 60, 5), "high": round(high / 60, 5),
        "bound": max(parts, key=lambda name: parts[name]), "seconds": {name: round(value, 3) for name, value in parts.items()},
        "seconds_per_step": round(typical, 5), "load_seconds_per_step": round(load, 5),
    }  # fmt: skip


def saves_of(checkpoint: dict[str, Any], epochs: int, steps: int, minutes: float) -> int:
    """How many checkpoints a run of so many epochs, steps and minutes writes."""
    every = checkpoint["every_epochs"]
    by_epoch = math.ceil(epochs / every) if every else 1
    by_step = steps // checkpoint["every_steps"] if checkpoint["every_steps"] else 0
    by_time = int(minutes / checkpoint["every_minutes"]) if checkpoint["every_minutes"] else 0
    return max(1, by_epoch, by_step, by_time)
