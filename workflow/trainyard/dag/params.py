"""What a job is told, as params: settings in one JSON text, fingerprints of code and data.

A change of a param reruns the job, so nothing that only says where or how fast belongs here.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trainyard.config import Run
from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.jobs import dataset_settings, run_settings, task_of
from trainyard.dag.asked import Asked
from trainyard.dag.files import Files
from trainyard.dag.jobs import Jobs
from trainyard.data.stamp import data_stamp
from trainyard.train.fingerprint import code_fingerprint


def as_json(value: Any) -> str:
    """Compact JSON in a fixed order: a param that changes only when what it says changes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Params:
    """Param functions of the rules."""

    def __init__(self, jobs: Jobs, files: Files):
        self.jobs, self.files = jobs, files
        self._codes: dict[tuple[str, ...], str] = {}
        self._runs: dict[tuple[str, str], dict[str, Any]] = {}

    # ---- settings ----------------------------------------------------------------------------------------------
    def generator(self, wildcards: Any) -> str:
        d = self.jobs.dataset(wildcards.suite, wildcards.dataset)
        return as_json({"generator": d.generator, "generate": d.generate, "seed": d.seed})

    def dataset(self, wildcards: Any) -> str:
        return as_json(dataset_settings(self.jobs.config, wildcards.suite, wildcards.dataset))

    def run(self, wildcards: Any) -> str:
        """Settings of a run, or of a model's first run."""
        return as_json(self._settings(self.jobs.run_of(wildcards)))

    def _settings(self, run: Run) -> dict[str, Any]:
        """The settings of a run, worked out once: several params of several jobs are parts of it."""
        key = (run.suite, run.name)
        if key not in self._runs:
            self._runs[key] = run_settings(self.jobs.config, run)
        return self._runs[key]

    def model(self, wildcards: Any) -> str:
        """Settings of a model, the same for all its runs: what preflight is told."""
        settings = self._settings(self.jobs.run_of(wildcards))
        seed = self.jobs.model_of(wildcards).seed
        return as_json({**settings, "run": settings["model"], "fold": 0, "shard": 0, "seed": seed})

    def task(self, wildcards: Any) -> str:
        """What a run is about, without how it is trained: enough for baselines and evaluation."""
        run = self.jobs.run_of(wildcards)
        return as_json(task_of(self._settings(run), run))

    def run_value(self, key: str) -> Callable[[Any], Any]:
        """One setting of the run as a param of its own, so that the printed reason of a rerun can be read."""
        return Asked(partial(_run_value, self, key))

    def base_model(self, wildcards: Any) -> str:
        return as_json(self.jobs.model_of(wildcards).base.model_dump(mode="json"))

    def merge(self, wildcards: Any) -> str:
        run, model = self.jobs.run_of(wildcards), self.jobs.model_of(wildcards)
        names = {"run": run.merged, "model": f"{run.model}-merged"}
        settings = {**self._settings(run), **names, "shard": 0}
        return as_json({**settings, "merge": model.merge.model_dump(mode="json")})

    def promotion(self, wildcards: Any) -> str:
        """What the decision of a suite is told."""
        promote = self.jobs.promote(wildcards.suite)
        return as_json({"suite": wildcards.suite, **promote.model_dump(mode="json", exclude={"models"})})

    def slot_codes(self, wildcards: Any) -> str:
        """Of a promoted run: the fingerprint of a training's code by model, as each could be the one that goes on."""
        runs = self.jobs.run_of(wildcards).of
        return as_json({r.model: self.code("train_model")(SimpleNamespace(suite=r.suite, run=r.name)) for r in runs})

    def script(self, wildcards: Any) -> str:
        settings, discover = self.jobs.config.settings, self.jobs.discover(wildcards.suite)
        given = {key: getattr(settings, key) or getattr(discover, key) for key in ("epochs", "folds", "batch_size")}
        if (path := self.files.script(wildcards)) in self.files.sent:
            given["source"] = hashlib.sha256(Path(path).read_bytes()).hexdigest()  # no input file says that it was changed
        return as_json({
            "suite": wildcards.suite, "run": wildcards.run, "model": wildcards.run, "minutes": discover.minutes, **given,
            "extra_args": discover.extra_args + settings.extra_args,
        })  # fmt: skip

    def script_path(self, wildcards: Any, input: Any) -> str:
        return str(input[0]) if len(input) else os.path.relpath(self.files.script(wildcards))

    # ---- flags -------------------------------------------------------------------------------------------------
    # Folders come from the job's input files: under a storage these lie elsewhere.
    def base_flag(self, wildcards: Any, input: Any) -> str:
        """The --base-model flag, quoted for the shell; empty for models without a base."""
        name = self.jobs.run_of(wildcards).model
        if not self.jobs.is_lora(wildcards.suite, name):
            return ""
        given = self.jobs.model(wildcards.suite, name).base_model
        return f"--base-model {shlex.quote(given or _base_folder(input))}"

    def trained_base_flags(self, wildcards: Any, input: Any) -> str:
        """The same, and where the built base lies elsewhere (under a storage), the name that the adapter is to know it by."""
        flag, run = self.base_flag(wildcards, input), self.jobs.run_of(wildcards)
        name = f"results/{run.suite}/base/{run.model}"
        return f"{flag} --base-name {shlex.quote(name)}" if input.base and _base_folder(input) != name else flag

    def shard_folders(self, adapters: str) -> Callable[[Any, Any], list[str]]:
        """The folders of a model's shards; `adapters` names the input with their adapters."""
        return Asked(partial(_folders, adapters))

    def merge_flags(self, wildcards: Any) -> str:
        """What a strategy is told, and nothing that it does not use: a change of the density merges no average again."""
        merge, strategy = self.jobs.model_of(wildcards).merge, wildcards.strategy
        if strategy == "best":
            return ""
        on_values = strategy in ("ties", "dare", "magnitude_prune")
        flags = {
            "rank": merge.rank,
            "tolerance": None if on_values else merge.tolerance,
            "weights": _weights(merge.weights) if strategy == "weighted" else None,
            "density": merge.density if on_values else None,
            "seed": merge.seed if strategy == "dare" else None,
            "dtype": None if merge.dtype == "float32" else merge.dtype,
        }
        return " ".join(f"--{name} {value}" for name, value in flags.items() if value is not None)

    def merged_folders(self, wildcards: Any, input: Any) -> list[str]:
        """strategy=folder of each merge, in the order of the fallback chain."""
        return [f"{Path(folder).name}={folder}" for folder in dict.fromkeys(_folders("merged", wildcards, input))]

    # ---- fingerprints ------------------------------------------------------------------------------------------
    def data_stamp(self, wildcards: Any) -> str:
        root = self.jobs.dataset(wildcards.suite, wildcards.dataset).root
        if root:
            return data_stamp(Path(root).expanduser())
        return f"generated by {self.code('generate_data')(wildcards)}" if self.files.stored else "generated"

    def code(self, script: str) -> Callable[[Any], str]:
        """Fingerprint of a command, and of the modules it loads by name for the job."""
        return Asked(partial(_code, self, script))

    def modules(self, script: str, wildcards: Any) -> list[str]:
        """Modules that a command loads by name, and that its imports therefore do not show."""
        if script == "generate_data":
            return [f"trainyard.data.generate.{self.jobs.dataset(wildcards.suite, wildcards.dataset).generator}"]
        if script in ("index_dataset", "copy_to_local"):
            return [f"trainyard.data.{self.jobs.dataset(wildcards.suite, wildcards.dataset).format}"]
        if script in ("build_base_model", "validate_merge"):
            return ["trainyard.data.chat_pack"]
        if script == "merge_adapters":
            return [f"trainyard.lora.strategies.{wildcards.strategy}"]
        if script not in ("train_model", "preflight_check", "fit_baselines", "map_attention"):
            return []
        architecture = ARCHITECTURES[self.jobs.model_of(wildcards).architecture]
        chat = ["trainyard.data.chat_pack"] if architecture.format == "chat" else []
        loaded = f"trainyard.baselines.{architecture.format}" if script == "fit_baselines" else architecture.target.partition(":")[0]
        return [*chat, loaded]

    # ---- after a failure ---------------------------------------------------------------------------------------
    def fetch_command(self, store: str) -> list[str]:
        """The command (without python) that brings results home from a storage."""
        return [str(self.jobs.home / "workflow/scripts/fetch_results.py"), "--store", store, "--output", "results/fetched.json"]

    def partial_commands(self) -> list[list[str]]:
        """Commands (without python) that build comparison and report from what there is."""
        scripts = self.jobs.home / "workflow" / "scripts"
        commands = []
        for suite in self.jobs.active_suites():
            there = [m for m in self.files.suite_metrics(SimpleNamespace(suite=suite)) if Path(m).exists()]
            commands.append([
                str(scripts / "compare_models.py"), "--suite", suite, "--partial", "--expected", as_json(self.jobs.expected(suite)),
                "--summary", "results/summary.json", "--output", f"results/{suite}/comparison.csv",
                "--json", f"results/{suite}/comparison.json", "--metrics", *there,
            ])  # fmt: skip
        commands.append([
            str(scripts / "build_report.py"), "--partial", "--results", "results", "--output", "results/report/index.html",
            "--status", "results/report/STATUS.md", "--suites", *self.jobs.active_suites(),
        ])  # fmt: skip
        return commands

    def partial_outputs(self) -> list[str]:
        """Files that those commands write, and that a job writes when all goes well."""
        suites = [f"results/{suite}/comparison.{kind}" for suite in self.jobs.active_suites() for kind in ("csv", "json")]
        return [*suites, "results/report/index.html", "results/report/STATUS.md"]


def _weights(weights: str | tuple[float, ...]) -> str | None:
    """By 1 / validation loss is what the command does unasked."""
    return " ".join(f"{w:.17g}" for w in weights) if isinstance(weights, tuple) else weights if weights == "samples" else None


def _base_folder(input: Any) -> str:
    """Where the built base of a job lies."""
    return str(Path(str(input.base[0])).parent)


def _folders(name: str, wildcards: Any, input: Any) -> list[str]:
    """The folder of each of the job's input files of a name."""
    return [str(Path(str(path)).parent) for path in input[name]]


def _run_value(params: Params, key: str, wildcards: Any) -> Any:
    return params._settings(params.jobs.run_of(wildcards))[key]


def _code(params: Params, script: str, wildcards: Any) -> str:
    modules = params.modules(script, wildcards)
    known = (script, *modules)
    if known not in params._codes:
        path = params.jobs.home / "workflow" / "scripts" / f"{script}.py"
        # The page's templates are code too, if not Python.
        templates = sorted((params.jobs.home / "workflow/trainyard/report/templates").iterdir()) if script == "build_report" else []
        params._codes[known] = "code=" + code_fingerprint(path, modules, templates)
    return params._codes[known]
