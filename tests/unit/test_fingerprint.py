"""The code fingerprint: blind to comments, docstrings and formatting, alert to everything else, equal on every Python."""

import hashlib
from pathlib import Path

import pytest
from trainyard.train.fingerprint import canonical_source, code_fingerprint

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"

BEFORE = '''
"""Doc."""
import math
from dataclasses import dataclass

@dataclass
class A:
    """More doc."""
    x: int = 1  # why

def f(a, *, b=2, **c):
    """Doc."""
    with open(a) as g, open(b) as h:
        return [f"{x!r:>{b}} {math.pi:.2f}" for x in g if x] or {**c, "k": (lambda y: y)(3)}

async def k():
    match 3:
        case [1, *rest]:
            return rest
'''
AFTER = '''"""Another doc."""
import math
from dataclasses import dataclass


@dataclass
class A:
    x: int = 1


def f(a, *, b = 2, **c):
    with open(a) as g, \\
            open(b) as h:
        # a comment
        return ([f'{x!r:>{b}} {math.pi:.2f}' for x in g if x] or
                {**c, 'k': (lambda y: y)(3)})


async def k():
    match 3:
        case [1, *rest]:
            return rest
'''


def test_comments_docstrings_and_format_change_nothing():
    assert canonical_source(BEFORE) == canonical_source(AFTER)


@pytest.mark.parametrize(
    "old, new", [("b=2", "b=3"), ("x: int = 1", "x: int = 2"), (".2f", ".3f"), ("if x", "if not x"), ("math.pi", "math.e")]
)
def test_code_changes_are_seen(old, new):
    assert canonical_source(BEFORE.replace(old, new)) != canonical_source(BEFORE)


def test_imports_are_followed_and_models_are_apart():
    lib = code_fingerprint(SCRIPTS / "train_model.py", ["trainyard.models.i3d"])
    assert lib == code_fingerprint(SCRIPTS / "train_model.py", ["trainyard.models.i3d"])
    assert lib != code_fingerprint(SCRIPTS / "train_model.py", ["trainyard.models.slowfast"])
    assert lib != code_fingerprint(SCRIPTS / "fit_baselines.py", ["trainyard.models.i3d"])


def test_equal_on_every_python():
    # Written down from CPython 3.11, 3.12 and 3.13: whichever runs this test must agree.
    assert (
        hashlib.sha256(canonical_source(BEFORE).encode()).hexdigest() == "5e916cf92faf4dfa24c1de8f6b4929bced34f4421ed1546f5c918b78b6ff0cec"
    )
