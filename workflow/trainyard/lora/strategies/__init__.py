"""Ways to merge adapters, a file each. A strategy says each adapter's share; some also change the updates, row by row.

`shares(known)`: (K,), summing to 1. `merger(layer, density, seed)`, where it is there: a function of a block of rows of all
updates, (K, n, in) float32, scaled, and of the first row's number, that returns the merged rows, (n, in).
"""

from importlib import import_module
from types import ModuleType

# The names of the files beside this one, in the order people should meet them.
NAMES = ("average", "weighted", "best", "ties", "dare", "magnitude_prune")


def strategy(name: str) -> ModuleType:
    return import_module(f"trainyard.lora.strategies.{name}")
