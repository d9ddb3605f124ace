"""Where a training is: all that a checkpoint holds beside the tensors."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class State:
    """`at` counts the items of this epoch already seen, `step` the optimiser steps of all; sums are over this epoch."""

    epoch: int = 0
    at: int = 0
    step: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float = math.inf
    best_epoch: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, which knows no infinity."""
        return {**asdict(self), "best_loss": None if math.isinf(self.best_loss) else self.best_loss}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "State":
        """Raises ValueError, KeyError or TypeError when `values` are not what `as_json` gave."""
        counts = {name: values[name] for name in ("epoch", "at", "step", "best_epoch")}
        if bad := [name for name, count in counts.items() if type(count) is not int or count < 0]:
            raise ValueError(f"not the state of a training: {bad[0]} is {counts[bad[0]]!r:.40}")
        if not isinstance(values["history"], list):
            raise ValueError("not the state of a training: its history is no list")
        known = {f.name: values[f.name] for f in fields(cls)}
        return cls(**{**known, "best_loss": math.inf if known["best_loss"] is None else known["best_loss"]})
