"""Functions that Snakemake asks about a job, with their parameters stated.

Snakemake looks at the signature of such a function several times a call, which costs more than most of the answers, unless the
parameters are written down where it looks first.
"""

import inspect
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, TypeVar

from trainyard.config import Run

Owner = TypeVar("Owner")
Function = TypeVar("Function", bound=Callable)
STATED = "_overwrite_params"  # as snakemake.common.overwrite_function_params names it


class Asked:
    """A bound method or a partial function that Snakemake may ask: such can have no attributes of their own."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        self.__name__ = getattr(function, "__name__", "asked")
        self.__signature__ = inspect.signature(function)
        setattr(self, STATED, self.__signature__.parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


def state_parameters(owner: Owner) -> Owner:
    """`owner`, its public methods that are functions of a job's wildcards made ready to be asked."""
    for name, method in inspect.getmembers(owner, inspect.ismethod):
        if not name.startswith("_") and next(iter(inspect.signature(method).parameters), "") == "wildcards":
            setattr(owner, name, Asked(method))
    return owner


def asked(function: Function) -> Function:
    """The same for a plain function."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    setattr(function, STATED, function.__signature__.parameters)  # type: ignore[attr-defined]
    return function


def same(function: Callable[[Any], Any], runs: Iterable[Run]) -> Any:
    """What `function` answers, where it answers the same for all runs; else the function, to be asked for each job."""
    answers = {function(SimpleNamespace(suite=run.suite, run=run.name)) for run in runs}
    return answers.pop() if len(answers) == 1 else function
