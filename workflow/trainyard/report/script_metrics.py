"""Metrics that a found script wrote: read with care, since it may write anything."""

import json
import math
from pathlib import Path
from typing import Any

from trainyard.report.metrics import direction_of

NAMES = ("metrics.json", "results.json")
MOST_BYTES = 1 << 20
MOST_METRICS = 200
MOST_CHARS = 120
MOST_NOTES = 5
SLACK = 1e-9


def metrics_files(folders: list[Path]) -> list[Path]:
    """Where a script may have written its metrics, most likely first."""
    return [folder / name for folder in folders for name in NAMES]


def read_script_metrics(folders: list[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """(metrics in the form of metrics.json, notes on what could not be used) from the first file there is.

    Taken are {"metrics": [{"part", "split", "metric", "value", "ci_low", "ci_high", "direction", "n", "groups", "trivial",
    "simple", "vs_trivial", "vs_simple"}, …]}, where only metric and value must be there, and a plain {"accuracy": 0.9, …}.
    trivial and simple are {"name", "value"}; vs_trivial and vs_simple {"difference", "ci_low", "ci_high", "p_better"}, with
    a difference above zero where the script's model is better, whatever the direction.
    """
    path = next((p for p in metrics_files(folders) if p.is_file() and not p.is_symlink()), None)
    if path is None:
        return [], [f"reported no metrics (it may write {NAMES[0]} into its output folder)"]
    if path.stat().st_size > MOST_BYTES:
        return [], [f"{path.name} has {path.stat().st_size} bytes, more than {MOST_BYTES}: not read"]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return [], [f"{path.name} is not JSON: {str(error)[:MOST_CHARS]}"]
    entries = found.get("metrics") if isinstance(found, dict) else None
    if entries is None and isinstance(found, dict):
        entries = [{"metric": name, "value": value} for name, value in found.items() if _number(value) is not None]
    if isinstance(entries, dict):
        entries = [{"metric": name, "value": value} for name, value in entries.items()]
    if not isinstance(entries, list):
        return [], [f"{path.name} holds no list of metrics"]
    metrics, notes = [], []
    for entry in entries[:MOST_METRICS]:
        taken, said = _entry(entry)
        metrics += [taken] if taken else []
        notes += [f"{path.name}: {why}" for why in said]
    if len(entries) > MOST_METRICS:
        notes.append(f"{path.name}: only the first {MOST_METRICS} of {len(entries)} metrics were taken")
    return metrics, list(dict.fromkeys(notes))[:MOST_NOTES]


def _entry(entry: Any) -> tuple[dict[str, Any] | None, list[str]]:
    """(the entry as far as it can be used, notes on the rest)."""
    if not isinstance(entry, dict) or not isinstance(entry.get("metric"), str):
        return None, ["an entry has no metric's name"]
    name = _text(entry["metric"])
    value = _number(entry.get("value"))
    if value is None:
        return None, [f"{name}: its value is not a finite number"]
    direction = entry.get("direction") if entry.get("direction") in ("max", "min") else direction_of(name.lower())
    if direction is None:
        return None, [f'{name}: say whether max or min is better in "direction"']
    low, high, said = _interval(entry)
    notes = [f"{name}: {said}"] if said else []
    out: dict[str, Any] = {
        "part": _text(entry.get("part") or "result"), "split": _text(entry.get("split") or "test"), "kind": "reported", "metric": name,
        "value": value, "ci_low": low, "ci_high": high, "direction": direction, "n": _count(entry.get("n")),
        "groups": _count(entry.get("groups")),
    }  # fmt: skip
    for level in ("trivial", "simple"):
        base = entry.get(level)
        other = _number(base.get("value")) if isinstance(base, dict) else None
        if isinstance(base, dict) and other is not None:
            out[level] = {"name": _text(base.get("name") or level), "value": other}
        versus = entry.get(f"vs_{level}")
        if versus is None:
            continue
        if other is None:
            notes.append(f"{name}: vs_{level} without the value of {level} is not used")
            continue
        gain, said = _difference(versus, value - other if direction == "max" else other - value)
        if gain:
            out[f"vs_{level}"] = gain
        notes += [f"{name}: vs_{level}: {said}"] if said else []
    return out, notes


def _difference(found: Any, plain: float) -> tuple[dict[str, float | None] | None, str]:
    """A paired difference, and what is wrong with it; `plain` is the difference of the two values."""
    difference = _number(found.get("difference")) if isinstance(found, dict) else None
    if difference is None:
        return None, "needs a finite difference"
    # A difference the wrong way round would turn the verdict into its opposite.
    if difference * plain < 0 and min(abs(difference), abs(plain)) > SLACK:
        return None, "its difference contradicts the values (above zero means that the model is better)"
    low, high, said = _interval(found)
    better = _number(found.get("p_better"))
    if found.get("p_better") is not None and (better is None or not 0 <= better <= 1):
        better, said = None, said or "p_better is not between 0 and 1"
    return {"difference": difference, "ci_low": low, "ci_high": high, "p_better": better}, said


def _interval(found: dict[str, Any]) -> tuple[float | None, float | None, str]:
    """ci_low and ci_high, or neither and why."""
    if found.get("ci_low") is None and found.get("ci_high") is None:
        return None, None, ""
    low, high = _number(found.get("ci_low")), _number(found.get("ci_high"))
    if low is None or high is None or low > high:
        return None, None, "ci_low and ci_high are not an interval"
    return low, high, ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _text(value: Any) -> str:
    return "".join(c for c in str(value) if c.isprintable())[:MOST_CHARS]
