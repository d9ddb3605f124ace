"""What is asked of a merge, checked before any file is opened."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.lora.adapter_config import AdapterError
from trainyard.lora.number_types import OUTPUT
from trainyard.lora.strategies import NAMES

# These change the updates value by value, so that the result is no longer of low rank.
ON_VALUES = ("ties", "dare", "magnitude_prune")


@dataclass(frozen=True)
class Recipe:
    """`weights`: one for each adapter, "loss" or "samples". `rank`: of the result; `tolerance`: or the largest relative error
    that a smaller rank may have; neither: exact. `dtype`: of the result. `density`, `seed`: share of values that ties, dare and
    magnitude_prune keep; what dare drops. `mixed`: adapters of different rank, alpha or rsLoRA are merged too. `same_base`: the
    adapters name their base differently, and it is one."""

    strategy: str = "average"
    weights: Sequence[float] | str | None = None
    rank: int | None = None
    tolerance: float | None = None
    dtype: str = "float32"
    density: float = 0.5
    seed: int = 0
    mixed: bool = False
    same_base: bool = False

    def check(self) -> None:
        """Raises AdapterError for options that exclude each other or are out of range."""
        if self.strategy not in NAMES:
            raise AdapterError(f"strategy must be one of {', '.join(NAMES)}, not '{self.strategy}'")
        if self.rank is not None and self.rank < 1:
            raise AdapterError(f"rank must be 1 or more, not {self.rank}")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise AdapterError(f"tolerance must be above 0 and below 1, not {self.tolerance:g}")
        if self.rank is not None and self.tolerance is not None:
            raise AdapterError("rank and tolerance exclude each other; give one of them")
        if self.dtype not in OUTPUT:
            raise AdapterError(f"dtype must be one of {', '.join(OUTPUT)}, not '{self.dtype}'")
        if not 0 < self.density <= 1:
            raise AdapterError(f"density must be above 0 and at most 1, not {self.density:g}")
        if isinstance(self.weights, str) and self.weights not in ("loss", "samples"):
            raise AdapterError(f"weights must be numbers, 'loss' or 'samples', not '{self.weights}'")
        if self.on_values and self.tolerance is not None:
            raise AdapterError(f"the result of '{self.strategy}' is not of low rank, so no tolerance can be promised; give a rank")
        if self.strategy == "best" and (self.rank, self.tolerance) != (None, None):
            raise AdapterError("strategy 'best' takes one adapter as it is; rank and tolerance do not apply")

    @property
    def on_values(self) -> bool:
        return self.strategy in ON_VALUES
