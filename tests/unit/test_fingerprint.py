"""The code fingerprint: blind to comments, docstrings and formatting, alert to everything else, equal on every Python."""

import hashlib
import json
import subprocess
import sys
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


def pythons() -> list[str]:
    """Every Python here that Trainyard supports, beside the one that runs this."""
    import os
    import shutil

    names = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.*/bin/python")
    found = [shutil.which(f"python3.{minor}") for minor in range(11, 16)] + [str(p) for p in names]
    others = sorted({str(Path(p).resolve()) for p in found if p} - {str(Path(sys.executable).resolve())})
    return [p for p in others if _says([p, "-c", "import sys; print(sys.version_info >= (3, 11))"]) == "True"]


def _says(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


OF_ALL = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from trainyard.train.fingerprint import canonical_source, code_fingerprint
models = sorted(p.stem for p in Path(sys.argv[1], "trainyard", "models").glob("*.py") if p.stem != "__init__")
codes = {s.name: code_fingerprint(s) for s in sorted(Path(sys.argv[1], "scripts").glob("*.py"))}
codes |= {m: code_fingerprint(Path(sys.argv[1], "scripts", "train_model.py"), [f"trainyard.models.{m}"]) for m in models}
print(json.dumps([codes, canonical_source(sys.stdin.read())]))
"""


def test_the_code_of_every_job_is_equal_on_every_python_found():
    others = pythons()
    if not others:
        pytest.skip(f"only Python {sys.version_info[0]}.{sys.version_info[1]} is installed here")
    answers = []
    for python in [sys.executable, *others]:
        done = subprocess.run([python, "-c", OF_ALL, str(SCRIPTS.parent)], input=BEFORE, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{python}: {done.stderr}"
        answers.append(json.loads(done.stdout))
    assert len(answers[0][0]) > 30 and all(answer == answers[0] for answer in answers)


def test_equal_on_every_python():
    # Written down from CPython 3.11, 3.12, 3.13 and 3.14 (as WebAssembly): whichever runs this test must agree.
    assert (
        hashlib.sha256(canonical_source(BEFORE).encode()).hexdigest() == "5e916cf92faf4dfa24c1de8f6b4929bced34f4421ed1546f5c918b78b6ff0cec"
    )
