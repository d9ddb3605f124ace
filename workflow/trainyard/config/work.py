"""Whether the hours of one training say anything about another's, and about the speed of its machine."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from trainyard.config.dataset import Dataset

GENERATED = Path("data/demo")  # beside the results

# What an epoch costs hangs on these settings of a run, beside its data and its machine.
WORK = ("architecture", "format", "options", "features", "batch_size", "accumulate")
LIMITS = (0.1, 10.0)  # a correction beyond says more about the figure than about the machine
GUESS = "limit"  # source of hours that nobody said: what a run takes says nothing about them, nor about its machine


def work_of(settings: Any) -> str:
    """Short, and the same for runs whose epochs cost the same on the same data and machine; empty for what is no run's settings."""
    if not isinstance(settings, dict) or "architecture" not in settings:
        return ""
    text = json.dumps({key: settings.get(key) for key in WORK}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def same_data(dataset: Dataset, results: Path, suite: str, name: str) -> bool:
    """Whether a data set that is there is the one asked for, as far as its own files tell: as it was generated, and its folds."""
    splits = read_object(results / suite / "data" / name / "splits.json")
    if splits and len(splits.get("folds") or ()) != dataset.folds:
        return False
    made = read_object(results.parent / GENERATED / suite / name / "manifest.json")
    asked = {"generator": dataset.generator, "options": dataset.generate, "seed": dataset.seed}
    return bool(dataset.root) or not made or all(made.get(key) == value for key, value in asked.items())


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object; an empty one where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def as_planned(planned: dict[str, Any], work: str, epochs: int) -> bool:
    """Whether what was trained is what a run of plan.json stands for, as far as both are known: other epochs take other hours."""
    same_work = not work or planned.get("work") in (None, "", work)
    return same_work and (not epochs or planned.get("epochs") in (None, 0, epochs))


def next_speed(before: float, hours: Sequence[tuple[float, float]]) -> float | None:
    """Factor on a machine's speed: the one before, times the median of planned / taken of its runs; None where none is known."""
    ratios = [planned / taken for planned, taken in hours if taken > 0]
    return min(max(before * median(ratios), LIMITS[0]), LIMITS[1]) if ratios else None
