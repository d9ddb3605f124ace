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


def metrics_files(folders: list[Path]) -> list[Path]:
    """Where a script may have written its metrics, most likely first."""
    return [folder / name for folder in folders for name in NAMES]


def read_script_metrics(folders: list[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """(metrics in the form of metrics.json, notes on what could not be used) from the first file there is.

    Taken are {"metrics": [{"part", "split", "metric", "value", "direction", "n", "trivial", "simple", "ci_low",
    "ci_high"}, …]}, where only metric and value must be there, and a plain {"accuracy": 0.9, …}.
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
        taken, why = _entry(entry)
        if taken:
            metrics.append(taken)
        elif why not in notes:
            notes.append(f"{path.name}: {why}")
    if len(entries) > MOST_METRICS:
        notes.append(f"{path.name}: only the first {MOST_METRICS} of {len(entries)} metrics were taken")
    return metrics, notes[:5]


def _entry(entry: Any) -> tuple[dict[str, Any] | None, str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("metric"), str):
        return None, "an entry has no metric's name"
    name = _text(entry["metric"])
    value = _number(entry.get("value"))
    if value is None:
        return None, f"{name}: its value is not a finite number"
    direction = entry.get("direction") if entry.get("direction") in ("max", "min") else direction_of(name.lower())
    if direction is None:
        return None, f'{name}: say whether max or min is better in "direction"'
    n = entry.get("n")
    out: dict[str, Any] = {
        "part": _text(entry.get("part") or "result"), "split": _text(entry.get("split") or "test"), "kind": "reported", "metric": name,
        "value": value, "ci_low": _number(entry.get("ci_low")), "ci_high": _number(entry.get("ci_high")), "direction": direction,
        "n": n if isinstance(n, int) and not isinstance(n, bool) and n >= 0 else None,
    }  # fmt: skip
    for level in ("trivial", "simple"):
        base = entry.get(level)
        if isinstance(base, dict) and _number(base.get("value")) is not None:
            out[level] = {"name": _text(base.get("name") or level), "value": _number(base["value"])}
    return out, ""


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
