"""The runs of a configuration, known before anything runs: a model, with a fold, a shard or a seed."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from trainyard.config.base import ConfigError, nearest
from trainyard.config.load import Config


@dataclass(frozen=True)
class Run:
    """One training. `fold` and `shard` count from 1; 0 stands for none."""

    suite: str
    name: str
    model: str
    seed: int = 0
    fold: int = 0
    shard: int = 0

    @property
    def path(self) -> str:
        return f"{self.suite}/{self.name}"


@dataclass(frozen=True)
class FoundScript:
    """A training script found in a folder; `name` is its file name without .py."""

    suite: str
    name: str
    path: str


def list_runs(config: Config) -> list[Run]:
    """Every run that `only` and `exclude` leave, in the config's order. Raises ConfigError on a pattern that fits nothing."""
    runs = every_run(config)
    scripts = list_scripts(config, filtered=False)
    _check_patterns(config, [(r.suite, r.model, r.name) for r in runs] + [(s.suite, s.name, s.name) for s in scripts])
    return [r for r in runs if _wanted(config, r.suite, r.model, r.name)]


def every_run(config: Config) -> list[Run]:
    """Every run there is, whatever `only` and `exclude` say."""
    return [run for suite in config.suites for run in _suite_runs(config, suite)]


def list_scripts(config: Config, filtered: bool = True) -> list[FoundScript]:
    """The found scripts of every suite, by name."""
    found = []
    for suite, settings in config.suites.items():
        discover = settings.discover
        if discover is None:
            continue
        root = Path(discover.root).expanduser()
        if not root.is_dir():
            raise ConfigError(f"{suite}.discover.root: no such folder: {root}")
        for path in sorted(root.iterdir()):
            fits = any(fnmatchcase(path.name, p) for p in discover.include)
            if fits and path.is_file() and not any(fnmatchcase(path.name, p) or fnmatchcase(path.stem, p) for p in discover.exclude):
                found.append(FoundScript(suite, path.stem, str(path)))
    taken = {(suite, model) for suite, s in config.suites.items() for model in s.models}
    for script in found:
        if (script.suite, script.name) in taken:
            raise ConfigError(f"{script.path}: a model of {script.suite} has the same name '{script.name}'; rename the file or exclude it")
    return [s for s in found if not filtered or _wanted(config, s.suite, s.name, s.name)]


def _suite_runs(config: Config, suite: str) -> list[Run]:
    runs = []
    for name, model in config.suites[suite].models.items():
        dataset = config.suites[suite].datasets[model.dataset]
        for fold in range(1, dataset.folds + 1) if dataset.folds else [0]:
            for shard in range(1, dataset.shards + 1) if dataset.shards else [0]:
                for repeat in range(1, model.seeds + 1) if model.seeds > 1 else [0]:
                    parts = [name]
                    parts += [f"fold{fold}"] if fold else []
                    parts += [f"shard{shard:02d}"] if shard else []
                    parts += [f"seed{repeat}"] if repeat else []
                    seed = model.seed + max(repeat - 1, 0)
                    runs.append(Run(suite, "-".join(parts), name, seed, fold, shard))
    return runs


def _wanted(config: Config, *names: str) -> bool:
    suite, model, run = names
    labels = {suite, model, run, f"{suite}/{model}", f"{suite}/{run}"}
    fits = lambda patterns: any(fnmatchcase(label, p) for p in patterns for label in labels)  # noqa: E731
    only, exclude = config.settings.only, config.settings.exclude
    return (not only or fits(only)) and not fits(exclude)


def _check_patterns(config: Config, names: list[tuple[str, str, str]]) -> None:
    labels = {label for s, m, r in names for label in (s, m, r, f"{s}/{m}", f"{s}/{r}")}
    for key in ("only", "exclude"):
        for pattern in getattr(config.settings, key):
            if not any(fnmatchcase(label, pattern) for label in labels):
                plain = sorted({label for s, m, _ in names for label in (s, m)})
                raise ConfigError(f"config: {key}: nothing is called '{pattern}'{nearest(pattern, plain)}")
