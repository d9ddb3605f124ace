"""Functions that Snakemake asks about a job, with their parameters stated.

Snakemake looks at the signature of such a function at each of its calls, which for bound methods and partial functions costs more
than most of the answers.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Owner = TypeVar("Owner")
Function = TypeVar("Function", bound=Callable)
OF_WILDCARDS = inspect.signature(lambda wildcards: None)


class Asked:
    """A function of a job's wildcards."""

    __signature__ = OF_WILDCARDS

    def __init__(self, function: Callable[[Any], Any]):
        self._function = function
        self.__name__ = getattr(function, "__name__", "asked")

    def __call__(self, wildcards: Any) -> Any:
        return self._function(wildcards)


def state_parameters(owner: Owner) -> Owner:
    """`owner`, its methods that are functions of wildcards alone made ready to be asked."""
    for name, method in inspect.getmembers(owner, inspect.ismethod):
        if not name.startswith("_") and list(inspect.signature(method).parameters) == ["wildcards"]:
            setattr(owner, name, Asked(method))
    return owner


def asked(function: Function) -> Function:
    """The same for a plain function, of whatever parameters."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function
