"""The runs of a configuration, known before anything runs: a model, with a fold, a shard or a seed; and what is made of several."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from trainyard.config.base import ConfigError, nearest
from trainyard.config.load import Config
from trainyard.config.schema import Discover
from trainyard.config.together import ENSEMBLE, NOT_AVERAGED, SLOT, fits, task_of


@dataclass(frozen=True)
class Run:
    """One training. `fold` and `shard` count from 1; 0 stands for none.

    With a `role` it is made of other runs, `of`: a slot ("promoted") goes on with one of them, an "ensemble" is their mean. Then
    `model` is the first one's: all share its dataset and task.
    """

    suite: str
    name: str
    model: str
    seed: int = 0
    fold: int = 0
    shard: int = 0
    role: str = ""
    of: tuple["Run", ...] = ()

    @property
    def path(self) -> str:
        return f"{self.suite}/{self.name}"

    @property
    def merge(self) -> str:
        """The merge that a shard's adapter goes into: the run's name without the shard; one a seed."""
        return self.name.replace(f"-shard{self.shard:02d}", "")

    @property
    def merged(self) -> str:
        """The run that the merge's figures are of: model-merged, with the fold or seed."""
        return f"{self.model}-merged{self.merge.removeprefix(self.model)}"

    @property
    def gathered(self) -> str:
        """The name that its figures are shown under: a promoted run and an ensemble stand for themselves."""
        return self.name.removesuffix(f"-fold{self.fold}") if self.role else self.model


@dataclass(frozen=True)
class FoundScript:
    """A training script found in a folder; `name` is its file name without .py."""

    suite: str
    name: str
    path: str


def _chosen(config: Config) -> list[Run]:
    """Every run that `only` and `exclude` leave, in the config's order. Raises ConfigError on a pattern that fits nothing."""
    runs = every_run(config)
    slots = _slots(config, runs)
    more = [(r.suite, r.gathered, r.name) for r in slots + _ensembles(config, runs + slots)]
    scripts = [(s.suite, s.name, s.name) for s in list_scripts(config, filtered=False)]
    _check_patterns(config, [(r.suite, r.model, r.name) for r in runs] + more + scripts)
    return [r for r in runs if _wanted(config, r.suite, r.model, r.name)]


def list_runs(config: Config) -> list[Run]:
    """The runs of this call: all chosen ones, or the worker's of them, in the config's order."""
    return [r for r in _chosen(config) if _is_mine(config, r)]


def list_slots(config: Config) -> list[Run]:
    """The promoted runs, chosen among the runs that `only` and `exclude` leave; none where these leave nothing to choose."""
    return [s for s in _all_slots(config) if _is_mine(config, s)]


def list_ensembles(config: Config) -> list[Run]:
    """The ensembles of the runs that `only` and `exclude` leave. Raises ConfigError on members that cannot be averaged."""
    found = _ensembles(config, _chosen(config) + _all_slots(config))
    return [e for e in found if _wanted(config, e.suite, e.gathered, e.name) and _is_mine(config, e)]


def _is_mine(config: Config, run: Run) -> bool:
    """Whether a run is the worker's; without a worker all are. What is made of several runs, if all of these are."""
    if config.mine is None:
        return True
    if run.of:
        return all(_is_mine(config, r) for r in run.of)
    return config.mine.has(run.suite, run.model, run.name)


def _all_slots(config: Config) -> list[Run]:
    return [s for s in _slots(config, _chosen(config)) if _wanted(config, s.suite, s.gathered, s.name)]


def _slots(config: Config, runs: list[Run]) -> list[Run]:
    slots = []
    for name, suite in config.suites.items():
        promote = suite.promote
        if promote is None:
            continue
        of = tuple(r for r in runs if r.suite == name and r.model in promote.models)
        if len(of) > promote.keep:
            slots += [Run(name, f"{SLOT}-{k}", of[0].model, of[0].seed, role=SLOT, of=of) for k in range(1, promote.keep + 1)]
    return slots


def _ensembles(config: Config, runs: list[Run]) -> list[Run]:
    """One of all named members; with `true` one of every question that two or more runs answer; and one a fold."""
    found = []
    for name, suite in config.suites.items():
        wanted, mine = suite.ensemble, [r for r in runs if r.suite == name]
        if not wanted:
            continue
        if isinstance(wanted, tuple):
            known = [r for r in every_run(config) if r.suite == name]
            for pattern in wanted:
                labels = [label for r in [*known, *mine] for label in (r.name, r.gathered)]
                if not any(fits(label, (pattern,)) for label in labels):
                    raise ConfigError(f"{name}.ensemble: nothing is called '{pattern}'{nearest(pattern, list(dict.fromkeys(labels)))}")
            mine = [r for r in mine if fits(r.name, wanted) or fits(r.gathered, wanted)]
        else:
            mine = [r for r in mine if not r.role and not r.shard]
        groups: dict[tuple[str, str], list[Run]] = {}
        for run in mine:
            groups.setdefault(task_of(suite, suite.models[run.model]), []).append(run)
        if isinstance(wanted, tuple):
            _check_task(name, list(groups), [r for r in mine if r.shard])
        groups = {task: members for task, members in groups.items() if task[1] not in NOT_AVERAGED}
        several = {task: members for task, members in groups.items() if _folds(members)}
        for (dataset, metric), members in several.items():
            label = ENSEMBLE if len(several) == 1 else f"{ENSEMBLE}-{dataset}-{metric}"
            for fold, of in _folds(members).items():
                called = f"{label}-fold{fold}" if fold else label
                found.append(Run(name, called, of[0].model, of[0].seed, fold, role=ENSEMBLE, of=tuple(of)))
    return found


def _folds(members: list[Run]) -> dict[int, list[Run]]:
    """Members by fold, of those folds that have two or more: only they predicted the same samples."""
    folds: dict[int, list[Run]] = {}
    for run in members:
        folds.setdefault(run.fold, []).append(run)
    return {fold: of for fold, of in folds.items() if len(of) > 1}


def _check_task(suite: str, tasks: list[tuple[str, str]], sharded: list[Run]) -> None:
    if len(tasks) > 1:
        found = "; ".join(f"{metric} on {dataset}" for dataset, metric in sorted(tasks))
        raise ConfigError(f"{suite}.ensemble: the members answer different questions ({found}); name members that share one")
    if sharded or (tasks and tasks[0][1] in NOT_AVERAGED):
        raise ConfigError(f"{suite}.ensemble: models of tokens give no probabilities that could be averaged; a merge joins adapters")


def every_run(config: Config) -> list[Run]:
    """Every run there is, whatever `only` and `exclude` say."""
    return [run for suite in config.suites for run in _suite_runs(config, suite)]


def list_scripts(config: Config, filtered: bool = True) -> list[FoundScript]:
    """The found scripts of every suite, by name."""
    found = _search_scripts(config) if config.told is None else [s for s in config.told.scripts if s.suite in config.suites]
    if not filtered:
        return found
    mine = [s for s in found if config.mine is None or config.mine.has(s.suite, s.name, s.name)]
    return [s for s in mine if _wanted(config, s.suite, s.name, s.name)]


def _search_scripts(config: Config) -> list[FoundScript]:
    found: list[FoundScript] = []
    for suite, settings in config.suites.items():
        discover = settings.discover
        if discover is None:
            continue
        root = Path(discover.root).expanduser()
        if not root.is_dir():
            raise ConfigError(f"{suite}.discover.root: no such folder: {root}")
        below = {path for pattern in discover.include if "/" in pattern for path in root.glob(pattern)}
        named = {path for path in root.iterdir() if fits(path.name, discover.include)}
        for path in sorted(below | named):
            if path.is_file() and not fits(path.name, discover.exclude) and not fits(path.stem, discover.exclude):
                found.append(FoundScript(suite, path.stem, str(path)))
        _check_scripts(suite, found, discover)
    taken = {(suite, model) for suite, s in config.suites.items() for model in s.models}
    for script in found:
        if (script.suite, script.name) in taken:
            raise ConfigError(f"{script.path}: a model of {script.suite} has the same name '{script.name}'; rename the file or exclude it")
    return found


def _check_scripts(suite: str, found: list[FoundScript], discover: Discover) -> None:
    if not found:
        words = f"include {', '.join(discover.include)}" + (f", exclude {', '.join(discover.exclude)}" if discover.exclude else "")
        raise ConfigError(f"{suite}.discover: no file in {discover.root} fits ({words})")
    names: dict[str, str] = {}
    for script in (s for s in found if s.suite == suite):
        if set("{}\n") & set(script.path):
            raise ConfigError(f"{suite}.discover: {script.path!r}: braces and line ends in a name cannot be used; rename it or exclude it")
        if script.name in names:
            raise ConfigError(f"{suite}.discover: two scripts are called '{script.name}': {names[script.name]}, {script.path}; exclude one")
        names[script.name] = script.path


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
