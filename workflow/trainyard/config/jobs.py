"""The settings of one job: what a rule hands to its command as JSON, and a person may write by hand."""

from typing import Any

from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.base import ConfigError, Frozen, nearest
from trainyard.config.load import Config
from trainyard.config.runs import Run
from trainyard.config.schema import Model
from trainyard.config.validation import read_settings, validate

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


def read_job(text: str) -> dict[str, Any]:
    """The settings of a training, JSON or @file, checked. Raises ConfigError that names the key."""
    return typed_job(read_settings(text, NEEDED), "--settings")


def typed_job(settings: dict[str, Any], where: str) -> dict[str, Any]:
    """Settings of a training that a person may have written by hand, as `run_settings` gives them. Raises ConfigError that begins
    with `where`."""
    known = NEEDED | {"schedule_epochs"}
    for key in settings:
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{key}'{nearest(key, sorted(known))}")
    model = validate(Model, {"dataset": "", **{k: settings[k] for k in ("architecture", "seed", *TRAINING) if k in settings}}, where)
    if absent := sorted(model.checkpoint.model_fields_set ^ type(model.checkpoint).model_fields.keys()):
        raise ConfigError(f"{where}: checkpoint: {', '.join(absent)} {'are' if len(absent) > 1 else 'is'} missing")
    for key in ("fold", "shard"):
        if type(settings[key]) is not int or settings[key] < 0:
            raise ConfigError(f"{where}: {key}: expected a whole number from 1 on, or 0 for none, found {settings[key]!r}")
    for key in ("suite", "run", "model"):
        if not isinstance(settings[key], str) or not settings[key]:
            raise ConfigError(f"{where}: {key}: expected a name, found {settings[key]!r}")
    if settings["format"] != (wanted := ARCHITECTURES[model.architecture].format):
        raise ConfigError(f"{where}: format: {model.architecture} reads {wanted}, not {settings['format']!r}")
    typed_options(settings)
    typed = {**settings, "seed": model.seed, **{k: v for k, v in model.model_dump(mode="json").items() if k in TRAINING}}
    return {**typed, "schedule_epochs": model.schedule_epochs or model.epochs}


def typed_options(settings: dict[str, Any]) -> Frozen:
    """The frozen options object of a run's architecture."""
    return validate(ARCHITECTURES[settings["architecture"]].options, settings["options"], "options")
