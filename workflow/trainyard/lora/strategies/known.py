"""What a strategy may know of the adapters when it weighs them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainyard.lora.adapter_config import AdapterError


@dataclass(frozen=True)
class Known:
    """`weights`: as given, or "loss" or "samples": by 1 / validation loss, or by training samples; None: the strategy's own way."""

    count: int
    weights: Sequence[float] | str | None = None
    losses: Sequence[float] | None = None
    samples: Sequence[float] | None = None

    def check(self) -> None:
        """Raises AdapterError for figures that are not one for each adapter, or make no sense."""
        for name, least in (("weights", 0), ("losses", 0), ("samples", 1)):
            numbers = getattr(self, name)
            if numbers is None or isinstance(numbers, str):
                continue
            if len(numbers) != self.count:
                raise AdapterError(f"{len(numbers)} {name} for {self.count} adapters; give one for each")
            values = np.asarray(numbers, np.float64)
            if not np.isfinite(values).all() or (values < least).any():
                raise AdapterError(f"{name} must be finite numbers of {least} or more, not {', '.join(f'{x:g}' for x in values)}")

    def equal(self) -> np.ndarray:
        return np.full(self.count, 1.0 / self.count)

    def weighed(self, default: str | None = None) -> np.ndarray:
        """Shares by `weights`, or by `default` ("loss", "samples", None: equal) where none are given."""
        way = self.weights if self.weights is not None else default
        if way is None:
            return self.equal()
        if way == "loss":
            raw = 1.0 / np.maximum(self.known_losses(), 1e-9)
        elif way == "samples":
            if self.samples is None:
                raise AdapterError("weights by samples need the number of training samples of each adapter")
            raw = np.asarray(self.samples, np.float64)
        else:
            raw = np.asarray(way, np.float64)
            if not 0 < raw.sum() < np.inf:
                raise AdapterError(f"weights must have a sum above 0, not {', '.join(f'{w:g}' for w in raw)}")
        return raw / raw.sum()

    def known_losses(self) -> np.ndarray:
        if self.losses is None:
            raise AdapterError("the validation loss of each adapter is needed, to weigh or to choose by; or give weights")
        return np.asarray(self.losses, np.float64)
