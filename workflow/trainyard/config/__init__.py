"""Typed, frozen configuration. Imports nothing heavy: Snakemake reads it at every start.

What is named here is loaded when it is first asked for: most commands need the types of a dataset and nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainyard.config.base import ConfigError
    from trainyard.config.load import Config, load_config
    from trainyard.config.runs import FoundScript, Run, every_run, list_ensembles, list_runs, list_scripts, list_slots

__all__ = [
    "Config",
    "ConfigError",
    "FoundScript",
    "Run",
    "every_run",
    "list_ensembles",
    "list_runs",
    "list_scripts",
    "list_slots",
    "load_config",
]
PLACES = {"ConfigError": "base", "Config": "load", "load_config": "load"}  # the others are in runs


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES.get(name, 'runs')}"), name)
