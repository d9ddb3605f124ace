"""What is made of several runs of a suite: promoted runs, and ensembles. Both need runs that answer the same question."""

import math
from fnmatch import fnmatchcase

from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.base import ConfigError, nearest
from trainyard.config.schema import Model, Promote, Settings, Suite

# Summed log-likelihoods of tokens: the mean of several models' probabilities cannot be had from them.
NOT_AVERAGED = ("nll",)
ENSEMBLE, SLOT = "ensemble", "promoted"


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, p) for p in patterns)


def task_of(suite: Suite, model: Model) -> tuple[str, str]:
    """(dataset, headline metric): runs that share both can be held against each other, and be averaged."""
    return model.dataset, ARCHITECTURES[model.architecture].headline


def with_promotion(name: str, suite: Suite, settings: Settings) -> Suite:
    """The suite with the short budget in every model that takes part. Raises ConfigError where promotion makes no sense.

    Their learning rate follows the long run's schedule from the start, or the promoted run would not be the same as one that was
    never interrupted. `epochs` for all models (a quick trial) scales both budgets.
    """
    _check_names(name, suite)
    promote = suite.promote
    if promote is None:
        return suite
    where = f"{name}.promote"
    members = _members(where, suite, promote)
    if settings.epochs:
        long = max(settings.epochs + 1, math.ceil(settings.epochs * promote.to_epochs / promote.from_epochs))
        promote = promote.model_copy(update={"from_epochs": settings.epochs, "to_epochs": long})
    budget = {"epochs": promote.from_epochs, "schedule_epochs": promote.to_epochs}
    models = {key: m.model_copy(update=budget) if key in members else m for key, m in suite.models.items()}
    return suite.model_copy(update={"models": models, "promote": promote.model_copy(update={"models": tuple(members)})})


def _members(where: str, suite: Suite, promote: Promote) -> list[str]:
    for pattern in promote.models:
        if not any(fnmatchcase(m, pattern) for m in suite.models):
            raise ConfigError(f"{where}.models: nothing is called '{pattern}'{nearest(pattern, list(suite.models))}")
    members = [m for m in suite.models if not promote.models or fits(m, promote.models)]
    tasks = {task_of(suite, suite.models[m]) for m in members}
    if len(tasks) > 1:
        found = "; ".join(f"{metric} on {dataset}" for dataset, metric in sorted(tasks))
        raise ConfigError(f"{where}: the models answer different questions ({found}); name those to choose from in promote.models")
    divided = [m for m in members if suite.datasets[suite.models[m].dataset].folds or suite.datasets[suite.models[m].dataset].shards]
    if divided:
        raise ConfigError(f"{where}: {divided[0]} has folds or shards, so no validation rows that all runs share: promote: null")
    repeats = sum(suite.models[m].seeds for m in members)
    if repeats <= promote.keep:
        raise ConfigError(f"{where}.keep: {promote.keep} of {repeats} runs leaves nothing to choose; keep fewer")
    return members


def _check_names(name: str, suite: Suite) -> None:
    for model in suite.models:
        if model == ENSEMBLE or model.startswith((f"{ENSEMBLE}-", f"{SLOT}-")):
            raise ConfigError(f"{name}.models: '{model}' is the name of a promoted run or an ensemble; choose another")
