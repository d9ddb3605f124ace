"""The settings of one job: what a rule hands to its command as JSON, and a person may write by hand."""

from typing import Any

from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.base import Frozen
from trainyard.config.load import Config
from trainyard.config.runs import Run
from trainyard.config.validation import validate

# Machine matters: they change what a run costs, not what it learns, so they stay out of its settings.
MACHINE = {"threads", "mem_mb", "cap_memory", "runtime", "gpu", "hours", "stated"}
# How it is trained: no matter to baselines and metrics.
TRAINING = {
    "epochs", "batch_size", "accumulate", "lr", "weight_decay", "warmup", "schedule", "schedule_epochs", "clip", "select", "checkpoint",
}  # fmt: skip
# What a training and its preflight cannot do without.
NEEDED = {"suite", "run", "model", "architecture", "format", "options", "features", "seed", "fold", "shard", *TRAINING} - {
    "schedule_epochs"
}
ELSEWHERE = {"options", "dataset", "seeds", "base", "base_model", "merge", "seed"}


def run_settings(config: Config, run: Run) -> dict[str, Any]:
    """What a training, its preflight, baselines and evaluation are told; a change of it retrains the run."""
    model = config.suites[run.suite].models[run.model]
    dataset = config.suites[run.suite].datasets[model.dataset]
    own = model.model_dump(mode="json", exclude=MACHINE | ELSEWHERE)
    return {
        "suite": run.suite,
        "run": run.name,
        "model": run.model,
        **own,
        "schedule_epochs": max(model.schedule_epochs or 0, model.epochs),
        "format": dataset.format,
        "options": model.options.model_dump(mode="json"),
        "features": dataset.features.model_dump(mode="json"),
        "seed": run.seed,
        "fold": run.fold,
        "shard": run.shard,
    }


def task_settings(config: Config, run: Run) -> dict[str, Any]:
    """What a run is about, without how it is trained: enough for baselines and evaluation."""
    return task_of(run_settings(config, run), run)


def task_of(settings: dict[str, Any], run: Run) -> dict[str, Any]:
    """The same from the settings of the run."""
    settings = {k: v for k, v in settings.items() if k not in TRAINING}
    return settings | ({"model": run.gathered} if run.role else {})


def dataset_settings(config: Config, suite: str, name: str) -> dict[str, Any]:
    """What index, split and local copy are told. The root's place is not part of it: moving data changes nothing."""
    dataset = config.suites[suite].datasets[name]
    return {"suite": suite, "dataset": name, **dataset.model_dump(mode="json", exclude={"root", "stated"})}


def typed_options(settings: dict[str, Any]) -> Frozen:
    """The frozen options object of a run's architecture."""
    return validate(ARCHITECTURES[settings["architecture"]].options, settings["options"], "options")
