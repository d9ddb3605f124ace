"""Patterns that fit no run: a mistake where nothing is called so in any suite, and fine where that suite just does not run now."""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from trainyard.config import every_run, list_ensembles, list_scripts, list_slots, load_config
from trainyard.config.base import ConfigError, nearest

ONE_OF_MANY = re.compile(r"/|-(fold|shard|seed)\d+")
NARROW = {"suites", "only", "exclude", "worker"}


def refuse_unknown(patterns: list[tuple[str, str]], config: dict[str, Any], home: Path) -> None:
    """Raises ConfigError for the first (where, pattern) that fits no suite, model or run of any suite."""
    if not patterns:
        return
    labels = every_label(config, home)
    for where, pattern in patterns:
        if not any(fnmatchcase(label, pattern) for label in labels):
            plain = [label for label in labels if not ONE_OF_MANY.search(label)]
            raise ConfigError(f"{where}: nothing is called '{pattern}'{nearest(pattern, plain)}")


def every_label(config: dict[str, Any], home: Path) -> list[str]:
    """The names that runs of all suites answer to: suite, model, run, suite/model, suite/run."""
    wide = {k: v for k, v in config.items() if k not in NARROW}
    labels: dict[str, None] = {}
    for path in sorted((home / "config" / "suites").glob("*.yaml")):
        labels[path.stem] = None
        try:
            loaded = load_config({**wide, "suites": [path.stem]}, home)
            runs = [(r.gathered, r.name) for r in (*every_run(loaded), *list_slots(loaded), *list_ensembles(loaded))]
            runs += [(s.name, s.name) for s in list_scripts(loaded)]
        except ConfigError:
            continue  # a suite that does not run now may lack what its owner has to set
        for model, run in runs:
            labels |= dict.fromkeys((model, run, f"{path.stem}/{model}", f"{path.stem}/{run}"))
    return list(labels)
