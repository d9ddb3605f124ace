"""The jobs of a configuration by name: datasets, models, runs, found scripts, merges."""

import os
import socket
import sys
import time
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from trainyard.config import Run, every_run, list_ensembles, list_runs, list_scripts, list_slots, load_config
from trainyard.config.base import ConfigError
from trainyard.config.dataset import Dataset
from trainyard.config.deadline import read_deadline
from trainyard.config.schema import Discover, Model, Promote, Settings
from trainyard.dag.names import refuse_unknown
from trainyard.host.gpus import usable_gpus


def set_shell_environment(home: Path, settings: Settings) -> None:
    """For the jobs' shells: this interpreter comes first, activated or not, and $SCRIPTS is where the commands are.

    What concerns the machine and this call goes the same way, for a param would retrain. A job that is a call of Snakemake of its
    own (on a cluster) keeps what the first call said.
    """
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["SCRIPTS"] = str(home / "workflow" / "scripts")
    os.environ.setdefault("TRAINYARD_CALL", f"{socket.gethostname()}-{os.getpid()}-{time.time():.0f}")
    if settings.deadline:
        os.environ.setdefault("TRAINYARD_DEADLINE", datetime.fromtimestamp(read_deadline(settings.deadline)).isoformat())
    if settings.tensorboard:
        os.environ["TRAINYARD_TENSORBOARD"] = "1"


def gpus_taken(workflow: Any) -> int:
    """How many GPUs each run takes unasked: one where jobs run on this machine and it has any."""
    return int(bool(workflow.local_exec and usable_gpus()))


class Jobs:
    """The resolved configuration as the rules see it. Raises ConfigError for whatever is wrong with it."""

    def __init__(self, config: dict, home: Path, told: Any = None):
        """`told`: see config.load_config."""
        self.home, self.given = home, config
        self.config = load_config(config, home, told)
        self.runs = list_runs(self.config)
        self.slots = list_slots(self.config)
        self.ensembles = list_ensembles(self.config)
        self.scripts = list_scripts(self.config)
        if self.config.mine is not None and told is None:
            refuse_unknown([(f"machines.{self.config.mine.worker}", p) for p in self.config.mine.patterns], config, home)
        if not self.runs and not self.scripts:
            raise ConfigError(self._nothing())
        self.datasets = {name: suite for suite, s in self.config.suites.items() for name in s.datasets}
        for suite, s in self.config.suites.items():
            for name in s.datasets:
                if self.datasets[name] != suite:
                    raise ConfigError(f"config: two suites, {suite} and {self.datasets[name]}, have a dataset '{name}'; rename one")

    def _nothing(self) -> str:
        """Why there is nothing to run."""
        mine = self.config.mine
        if mine is None:
            return "config: only and exclude leave nothing to run"
        return f"config: worker: there is nothing to do for '{mine.worker}' here: none of the chosen runs is its by {mine.source}"

    @cached_property
    def others(self) -> list[tuple[str, str]]:
        """(suite, run) of trainings and scripts that are chosen, but another worker's; none without a worker."""
        if self.config.mine is None:
            return []
        everybody = self.config.model_copy(update={"mine": None})
        mine = {(r.suite, r.name) for r in self.runs} | {(s.suite, s.name) for s in self.scripts}
        every = [(r.suite, r.name) for r in list_runs(everybody)] + [(s.suite, s.name) for s in list_scripts(everybody)]
        return [key for key in every if key not in mine]

    def rest(self) -> str:
        """What a worker leaves to others, in a line; empty without a worker, or where it does everything."""
        mine = self.config.mine
        if mine is None or not self.others:
            return ""
        few = ", ".join(name for _, name in self.others[:5]) + (f" and {len(self.others) - 5} more" if len(self.others) > 5 else "")
        return f"worker {mine.worker}: its {len(self.runs) + len(self.scripts)} runs are done; left to others: {few}"

    @cached_property
    def models(self) -> list[str]:
        return [m for s in self.config.suites.values() for m in s.models]

    @cached_property
    def script_names(self) -> list[str]:
        return [s.name for s in self.scripts]

    @cached_property
    def run_names(self) -> list[str]:
        return [r.name for r in self.with_figures] + self.script_names

    @cached_property
    def with_figures(self) -> list[Run]:
        """All that ends in predictions: trainings, promoted runs, ensembles."""
        return self.runs + self.slots + self.ensembles

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Run]:
        return {(r.suite, r.name): r for r in self.with_figures}

    def run(self, suite: str, name: str) -> Run:
        return self._by_name[suite, name]

    def runs_saved_as(self, kind: str) -> list[str]:
        """Runs that end in a "model" or an "adapter" file."""
        return [r.name for r in self.runs if kind == ("adapter" if self.is_lora(r.suite, r.model) else "model")]

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

    def most(self, wildcards: Any, key: str) -> int:
        """A machine setting of the job: of a promoted run, which may be any of several models, the largest."""
        run = self.run_of(wildcards)
        return max(getattr(self.model(r.suite, r.model), key) for r in run.of or (run,))

    def promote(self, suite: str) -> Promote:
        """How a suite promotes; only for suites that do."""
        promote = self.config.suites[suite].promote
        assert promote is not None, suite
        return promote

    def discover(self, suite: str) -> Discover:
        """How a suite's scripts are run; only for suites that have any."""
        discover = self.config.suites[suite].discover
        assert discover is not None, suite
        return discover

    def candidates(self, suite: str) -> tuple[Run, ...]:
        """The runs that a suite's promotion chooses from."""
        return next((s.of for s in self.slots if s.suite == suite), ())

    def run_of(self, wildcards: Any) -> Run:
        """The run of a job; of a merge, its first; for what is done once a model, the model's first, whether it is to run or not."""
        if hasattr(wildcards, "run"):
            return self.run(wildcards.suite, wildcards.run)
        if hasattr(wildcards, "merge"):
            return self.merges[wildcards.suite, wildcards.merge][0]
        return self._first_runs[wildcards.suite, wildcards.model]

    @cached_property
    def _first_runs(self) -> dict[tuple[str, str], Run]:
        """The first run of each model."""
        return {(r.suite, r.model): r for r in reversed(every_run(self.config))}

    def runs_of_model(self, wildcards: Any) -> int:
        """How many runs a model has."""
        return sum((r.suite, r.model) == (wildcards.suite, wildcards.model) for r in self.runs) or 1

    def is_lora(self, suite: str, model: str) -> bool:
        return self.model(suite, model).architecture == "lora"

    def builds_base(self, suite: str, model: str) -> bool:
        """Whether the model's base is the tiny one that is built here."""
        return self.is_lora(suite, model) and self.model(suite, model).base_model is None

    @cached_property
    def merges(self) -> dict[tuple[str, str], list[Run]]:
        """The runs whose adapters become one, by suite and name: all shards of a seed; none where `only` leaves just some of them."""
        found: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            if run.shard and self.is_lora(run.suite, run.model):
                found.setdefault((run.suite, run.merge), []).append(run)
        return {k: of for k, of in found.items() if 1 < len(of) == self.dataset(k[0], self.model(k[0], of[0].model).dataset).shards}

    def merges_of(self, suite: str) -> list[str]:
        """The names of a suite's merges."""
        return [name for of, name in self.merges if of == suite]

    @cached_property
    def merge_names(self) -> list[str]:
        return [name for _, name in self.merges]

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
        runs = [{"run": r.name, "model": r.gathered} for r in self.with_figures if r.suite == suite]
        runs += [{"run": s.name, "model": s.name} for s in self.scripts if s.suite == suite]
        firsts = [self.merges[suite, name][0] for name in self.merges_of(suite)]
        return runs + [{"run": r.merged, "model": f"{r.model}-merged"} for r in firsts]
