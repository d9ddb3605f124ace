"""Functions that Snakemake asks: it finds their parameters without looking at signatures, and their answers are unchanged."""

import inspect
from functools import partial

import pytest
from snakemake.common import get_function_params, get_input_function_aux_params
from snakemake.resources import Resource
from trainyard.config import Run
from trainyard.dag.asked import Asked, asked, same, state_parameters


class Owner:
    def name(self, wildcards):
        return f"name of {wildcards}"

    def folder(self, wildcards, input):
        return f"{input} of {wildcards}"

    def every(self):
        return ["all"]

    def _private(self, wildcards):
        return wildcards


@asked
def minutes(wildcards, attempt):
    return 10 * attempt


@pytest.fixture
def no_signatures(monkeypatch):
    """From here on, looking at a signature is a mistake."""

    def refuse(*args, **kwargs):
        raise AssertionError("looked at a signature")

    return lambda: monkeypatch.setattr(inspect, "signature", refuse)


def test_snakemake_finds_the_parameters_where_it_looks_first(no_signatures) -> None:
    owner = state_parameters(Owner())
    found = Asked(partial(lambda own, wildcards: own + wildcards, 5))
    no_signatures()
    assert list(get_function_params(owner.name)) == ["wildcards"]
    assert list(get_function_params(owner.folder)) == ["wildcards", "input"]
    assert list(get_function_params(minutes)) == ["wildcards", "attempt"]
    assert list(get_function_params(found)) == ["wildcards"] and found(2) == 7


def test_a_function_is_given_what_it_asks_for(no_signatures) -> None:
    owner = state_parameters(Owner())
    no_signatures()
    known = {"input": "files", "attempt": 2, "threads": 4}
    assert get_input_function_aux_params(owner.folder, known) == {"input": "files"}
    assert owner.folder("w", input="files") == "files of w" and owner.name("w") == "name of w"
    assert Resource("runtime", minutes).evaluate("w", **known).value == 20


def test_only_functions_of_wildcards_are_wrapped() -> None:
    owner = state_parameters(Owner())
    assert isinstance(owner.name, Asked) and owner.name.__name__ == "name"
    assert inspect.ismethod(owner.every) and owner.every() == ["all"]
    assert inspect.ismethod(owner._private)


def test_what_is_the_same_for_all_runs_is_no_function() -> None:
    runs = [Run("s", "a", "a", seed=1), Run("s", "b", "b", seed=2)]
    assert same(lambda wildcards: len(wildcards.run), runs) == 1

    def name(wildcards):
        return wildcards.run

    assert same(name, runs) is name and same(name, runs[:1]) == "a" and same(name, []) is name
