"""The size below which the values of an update are cut, so that a share of them (the density) stays."""

import numpy as np

from trainyard.lora.low_rank import Layer

# A module of up to this many rows and columns is looked at whole; of a larger one, a grid of evenly spaced ones.
GRID = 1024


def thresholds(layer: Layer, density: float) -> np.ndarray:
    """The smallest magnitude that is kept of each adapter's update, (K, 1, 1) float32."""
    rows, columns = _spread(layer.out_width), _spread(layer.in_width)
    found = []
    for (a, b), scale in zip(layer.parts, layer.scales):
        values = np.abs((b[rows] * scale).astype(np.float32) @ a[:, columns].astype(np.float32)).reshape(-1)
        keep = max(1, round(density * values.size))
        found.append(np.partition(values, values.size - keep)[values.size - keep])
    return np.array(found, np.float32)[:, None, None]


def _spread(count: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, GRID)).round().astype(np.int64)
