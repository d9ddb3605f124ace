"""Reading the configuration: suite files, scale, overlay, command line; and one clear message for any mistake."""

from pathlib import Path
from typing import Any

import yaml

from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.base import ConfigError, Frozen, nearest
from trainyard.config.features import FEATURES
from trainyard.config.schema import Settings, Suite
from trainyard.config.together import with_promotion
from trainyard.config.validation import merge, validate
from trainyard.config.worker import Slice, worker_slice

LISTS = ("suites", "only", "exclude", "extra_args")


class Config(Frozen):
    """The whole configuration, resolved: settings and, by name, the suites they ask for; and the worker's slice, where there is one."""

    settings: Settings
    suites: dict[str, Suite]
    mine: Slice | None = None
    told: Any = None  # elsewhere.Told: what the first call found, where this is a job's on another machine


def load_config(config: dict[str, Any], home: Path, told: Any = None) -> Config:
    """Resolve Snakemake's `config` (config.yaml, overlays and --config, already merged).

    `home` is the repository. Suite files are config/suites/<name>.yaml below it. `told` (elsewhere.Told): this is a job's call on another
    machine, where raw data and the plan are not. Raises ConfigError.
    """
    known = {p.stem: p for p in sorted((home / "config" / "suites").glob("*.yaml"))}
    fields = set(Settings.model_fields)
    for key in config:
        if key not in fields and key not in known:
            raise ConfigError(f"config: unknown key '{key}'{nearest(key, sorted(fields | set(known)))}")
    top = {k: split_list(v) if k in LISTS else v for k, v in config.items() if k in fields and v is not None}
    settings = validate(Settings, top, "config")
    suites = {}
    for name in settings.suites:
        if name not in known:
            raise ConfigError(f"config: suites: unknown suite '{name}'{nearest(name, list(known))}")
        overlay = config.get(name) or {}
        if not isinstance(overlay, dict):
            raise ConfigError(f"config: {name}: expected the keys of a suite, found {type(overlay).__name__}")
        suites[name] = _suite(name, home, overlay, settings, elsewhere=told is not None)
    if told is not None:
        return Config(settings=settings, suites=suites, mine=told.mine, told=told)
    return Config(settings=settings, suites=suites, mine=worker_slice(settings, home))


def split_list(value: Any) -> Any:
    """A list given as one word, as `--config only=als,alzheimers` does."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _read(path: Path, name: str) -> dict:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: expected a mapping")
    return data


def _suite(name: str, home: Path, overlay: dict, settings: Settings, elsewhere: bool = False) -> Suite:
    file = f"config/suites/{name}.yaml"
    data = _read(home / file, file)
    scales = data.pop("scales", {})
    data = merge(data, scales.get(settings.scale) or {})
    validate(Suite, data, file)
    for dataset, keys in (overlay.get("datasets") or {}).items():
        base = (data.get("datasets") or {}).get(dataset)
        if isinstance(keys, dict) and keys.get("root") and isinstance(base, dict):
            # Your own data: what described the generated ones no longer holds.
            for key in ("generator", "generate", "label", "group", "annotations", "glob", "fields"):
                base.pop(key, None)
    data = merge(data, overlay)
    where = f"{name} (your overlay on {file})" if overlay else file
    suite = validate(Suite, data, where)
    _check_models(name, suite)
    models = {}
    for key, model in suite.models.items():
        options = validate(ARCHITECTURES[model.architecture].options, model.options, f"{where}: models.{key}.options")
        models[key] = _with_overrides(model.model_copy(update={"options": options}), settings)
    datasets = {}
    for key, dataset in suite.datasets.items():
        update: dict[str, Any] = {"features": validate(FEATURES[dataset.format], dataset.features, f"{where}: datasets.{key}.features")}
        if settings.folds and dataset.folds:
            update["folds"] = settings.folds
        if settings.subset_size:
            update["subset_size"] = settings.subset_size
        datasets[key] = dataset.model_copy(update=update)
        if dataset.root and not elsewhere and not Path(dataset.root).expanduser().exists():
            raise ConfigError(f"{name}.datasets.{key}.root: no such file or folder: {dataset.root}; mount it or correct the path")
    discover = suite.discover
    if discover and not Path(discover.root).expanduser().is_dir() and (home / discover.root).is_dir():
        # The shipped examples, when the workflow runs in another folder than its own.
        discover = discover.model_copy(update={"root": str(home / discover.root)})
    return with_promotion(name, suite.model_copy(update={"models": models, "datasets": datasets, "discover": discover}), settings)


def _check_models(name: str, suite: Suite) -> None:
    """Every model's dataset exists and holds what the architecture reads."""
    for key, model in suite.models.items():
        place = f"{name}.models.{key}"
        if model.dataset not in suite.datasets:
            raise ConfigError(f"{place}.dataset: no dataset '{model.dataset}' in this suite{nearest(model.dataset, list(suite.datasets))}")
        wanted, found = ARCHITECTURES[model.architecture].format, suite.datasets[model.dataset].format
        if wanted != found:
            raise ConfigError(f"{place}.dataset: {model.architecture} reads {wanted} data, but '{model.dataset}' holds {found} data")
        weights, shards = model.merge.weights, suite.datasets[model.dataset].shards
        if isinstance(weights, tuple) and len(weights) != shards:
            raise ConfigError(f"{place}.merge.weights: {len(weights)} for {shards} shards; give one for each (of every seed the same)")
        if model.architecture == "lora" and model.base_model is None and model.base.dataset not in suite.datasets:
            near = nearest(model.base.dataset, list(suite.datasets))
            raise ConfigError(
                f"{place}.base_model: give the folder or hub name of a base model; or, for a tiny one, in base.dataset the chat dataset "
                f"it is pretrained on: there is no dataset '{model.base.dataset}' in this suite{near}"
            )


def _with_overrides(model, settings: Settings):
    update = {k: getattr(settings, k) for k in ("epochs", "batch_size", "seeds") if getattr(settings, k) is not None}
    return model.model_copy(update=update)
