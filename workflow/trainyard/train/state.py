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
        known = {f.name: values[f.name] for f in fields(cls)}
        return cls(**{**known, "best_loss": math.inf if known["best_loss"] is None else known["best_loss"]})
