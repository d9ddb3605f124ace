"""The jobs of a configuration by name: datasets, models, runs, found scripts, merges."""

import os
import re
import sys
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from trainyard.config import Run, every_run, list_runs, list_scripts, load_config
from trainyard.config.base import ConfigError
from trainyard.config.schema import Dataset, Model


def one_of(names: Iterable[str]) -> str:
    """A wildcard constraint: exactly these names; something that never fits when there are none."""
    return "|".join(re.escape(n) for n in sorted(set(names))) or "(?!)"


def set_shell_environment(home: Path) -> None:
    """For the jobs' shells: this interpreter comes first, activated or not, and $SCRIPTS is where the commands are."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["SCRIPTS"] = str(home / "workflow" / "scripts")


class Jobs:
    """The resolved configuration as the rules see it. Raises ConfigError for whatever is wrong with it."""

    def __init__(self, config: dict, home: Path):
        self.home = home
        self.config = load_config(config, home)
        self.runs = list_runs(self.config)
        self.scripts = list_scripts(self.config)
        if not self.runs and not self.scripts:
            raise ConfigError("config: only and exclude leave nothing to run")
        self.datasets = {name: suite for suite, s in self.config.suites.items() for name in s.datasets}
        for suite, s in self.config.suites.items():
            for name in s.datasets:
                if self.datasets[name] != suite:
                    raise ConfigError(f"config: two suites, {suite} and {self.datasets[name]}, have a dataset '{name}'; rename one")

    @cached_property
    def models(self) -> list[str]:
        return [m for s in self.config.suites.values() for m in s.models]

    @cached_property
    def script_names(self) -> list[str]:
        return [s.name for s in self.scripts]

    @cached_property
    def run_names(self) -> list[str]:
        return [r.name for r in self.runs] + self.script_names

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Run]:
        return {(r.suite, r.name): r for r in self.runs}

    def run(self, suite: str, name: str) -> Run:
        return self._by_name[suite, name]

    def runs_saved_as(self, kind: str) -> list[str]:
        """Runs that end in a "model" or an "adapter" file, or in "any"."""
        return [r.name for r in self.runs if kind in ("any", "adapter" if self.is_lora(r.suite, r.model) else "model")]

    def active_suites(self) -> list[str]:
        """Suites with anything to run, in the config's order."""
        busy = {r.suite for r in self.runs} | {s.suite for s in self.scripts}
        return [s for s in self.config.suites if s in busy]

    def used_datasets(self) -> list[tuple[str, str]]:
        """(suite, dataset) of every dataset that a run or a base model needs."""
        used = dict.fromkeys((r.suite, self.model(r.suite, r.model).dataset) for r in self.runs)
        for r in self.runs:
            if self.builds_base(r.suite, r.model):
                used[r.suite, self.model(r.suite, r.model).base.dataset] = None
        return list(used)

    def model(self, suite: str, name: str) -> Model:
        return self.config.suites[suite].models[name]

    def dataset(self, suite: str, name: str) -> Dataset:
        return self.config.suites[suite].datasets[name]

    def model_of(self, wildcards: Any) -> Model:
        """The model of a job, whether it has a run or a model wildcard."""
        return self.model(wildcards.suite, self.run_of(wildcards).model)

    def run_of(self, wildcards: Any) -> Run:
        """The run of a job; for what is done once a model, the model's first run, whether it is to run or not."""
        if hasattr(wildcards, "run"):
            return self.run(wildcards.suite, wildcards.run)
        return next(r for r in every_run(self.config) if (r.suite, r.model) == (wildcards.suite, wildcards.model))

    def is_lora(self, suite: str, model: str) -> bool:
        return self.model(suite, model).architecture == "lora"

    def builds_base(self, suite: str, model: str) -> bool:
        """Whether the model's base is the tiny one that is built here."""
        return self.is_lora(suite, model) and self.model(suite, model).base_model is None

    def shards(self, suite: str, model: str) -> list[Run]:
        """The runs that are merged: all shards of the first seed; none when `only` leaves just some of them."""
        if not self.is_lora(suite, model):
            return []
        count = self.dataset(suite, self.model(suite, model).dataset).shards
        mine = [r for r in self.runs if (r.suite, r.model) == (suite, model) and r.shard]
        first = [r for r in mine if r.seed == self.model(suite, model).seed]
        return first if count > 1 and len(first) == count else []

    def merged_models(self, suite: str) -> list[str]:
        return [m for m in self.config.suites[suite].models if self.shards(suite, m)]

    def layout(self, suite: str, dataset: str) -> str:
        """How the local copy of a dataset is laid out: "chat", "folds" or "split"."""
        d = self.dataset(suite, dataset)
        return "chat" if d.format == "chat" else "folds" if d.folds else "split"

    def datasets_laid_out(self, layout: str, shards: int | None = None) -> list[str]:
        fits = lambda suite, name: self.layout(suite, name) == layout and shards in (None, self.dataset(suite, name).shards)  # noqa: E731
        return [name for name, suite in self.datasets.items() if fits(suite, name)]

    def shard_counts(self) -> list[int]:
        """The different numbers of shards of the chat datasets."""
        return sorted({self.dataset(s, n).shards for n, s in self.datasets.items() if self.layout(s, n) == "chat"})

    def expected(self, suite: str) -> list[dict[str, str]]:
        """Every run a suite should end with, for tables that show what is missing."""
        runs = [{"run": r.name, "model": r.model} for r in self.runs if r.suite == suite]
        runs += [{"run": s.name, "model": s.name} for s in self.scripts if s.suite == suite]
        return runs + [{"run": f"{m}-merged", "model": f"{m}-merged"} for m in self.merged_models(suite)]
