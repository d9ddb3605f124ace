"""Typed, frozen configuration. Imports nothing heavy: Snakemake reads it at every start."""

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
