"""The runs of a model gathered: mean over folds, seeds and shards, with spread and interval.

- repeats on the same held-out items (seeds, shards): their mean; its variance is that of the held-out groups (the same
  in each repeat, so it does not shrink) plus that over the repeats, divided by their number;
- folds are tested on different groups: the mean over folds. Two standard errors are known, from the groups inside each
  fold and from the spread over folds (Student's t); the wider interval is reported, both are in comparison.json.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from trainyard.report.intervals import normal_probability, t_interval, t_probability
from trainyard.report.metrics import bounds_of

SUFFIX = re.compile(r"(?:-fold(?P<fold>\d+))?(?:-shard(?P<shard>\d+))?(?:-seed(?P<seed>\d+))?$")
MERGED = re.compile(r"-merged(?=(?:-fold\d+)?(?:-seed\d+)?$)")
Z = 1.959964
Read = Callable[[dict], tuple[float, float | None]]


def run_row(suite: str, model: str, run: dict[str, Any], m: dict[str, Any]) -> dict[str, Any]:
    """The row of one run and metric."""
    info = run.get("train_info") or {}
    trivial, simple = m.get("trivial") or {}, m.get("simple") or {}
    return {
        "suite": suite, "model": model, "part": m["part"], "split": m["split"], "metric": m["metric"], "value": m["value"],
        "ci_low": m.get("ci_low"), "ci_high": m.get("ci_high"), "direction": m["direction"], "baseline": trivial.get("value"),
        "n": m.get("n"), "seconds": info.get("seconds"), "parameters": info.get("parameters"), "bytes": info.get("bytes"),
        "run": run["run"], "runs": 1, "spread": None, "simple": simple.get("value"),
        "trivial_name": trivial.get("name", ""), "simple_name": simple.get("name", ""),
        "p_better_trivial": (m.get("vs_trivial") or {}).get("p_better"), "p_better_simple": (m.get("vs_simple") or {}).get("p_better"),
        "state": "done", "reason": "", "kind": m.get("kind", ""), "groups": m.get("groups"),
        "vs_trivial": m.get("vs_trivial"), "vs_simple": m.get("vs_simple"),
    }  # fmt: skip


def gathered_rows(suite: str, model: str, done: Sequence[dict], wanted: int, absent: Sequence[str]) -> list[dict[str, Any]]:
    """A row for every metric that the finished runs share."""
    found: dict[tuple[str, str, str], list[tuple[dict, dict]]] = {}
    for run in done:
        for metric in run["metrics"]:
            found.setdefault((metric["split"], metric["part"], metric["metric"]), []).append((run, metric))
    reason = f"mean of {len(done)} of {wanted} runs; without {', '.join(absent)}" if absent else ""
    rows = []
    for pairs in found.values():
        if len({m["direction"] for _, m in pairs}) > 1:
            continue
        folds: dict[int, list[dict]] = {}
        for run, metric in pairs:
            folds.setdefault(fold_of(run), []).append(metric)
        whole = _combine(folds, lambda m: (m["value"], m.get("sd")))
        low, high = bounds_of(pairs[0][1]["metric"])
        row = run_row(suite, model, pairs[0][0], pairs[0][1])
        values = [m["value"] for _, m in pairs]
        row |= {
            "run": "", "runs": len(pairs), "value": whole["value"], "spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "ci_low": _clip(whole["ci_low"], low, high), "ci_high": _clip(whole["ci_high"], low, high),
            "interval": whole["interval"], "interval_t": whole["interval_t"], "interval_groups": whole["interval_groups"],
            "n": _total(folds, "n"), "groups": _total(folds, "groups"), "reason": reason,
            "seconds": _added((run.get("train_info") or {}).get("seconds") for run, _ in pairs),
        }  # fmt: skip
        for level, column in (("trivial", "baseline"), ("simple", "simple")):
            known = [m for _, m in pairs if m.get(level)]
            row[column] = float(np.mean([m[level]["value"] for m in known])) if len(known) == len(pairs) else None
            row[f"vs_{level}"] = row[f"p_better_{level}"] = None
            if len(known) == len(pairs) and all(m.get(f"vs_{level}") for m in known):
                gain = _combine(folds, _difference(level))
                row[f"vs_{level}"] = {"difference": gain["value"], **{k: gain[k] for k in ("ci_low", "ci_high", "p_better")}}
                row[f"p_better_{level}"] = gain["p_better"]
        rows.append(row)
    return rows


def _combine(folds: dict[int, list[dict]], read: Read) -> dict[str, Any]:
    """Mean over folds of the means over repeats, with the wider of the known 95 % intervals (see the module's text)."""
    means: list[float] = []
    variances: list[float] = []
    for repeats in folds.values():
        values, errors = zip(*(read(m) for m in repeats))
        means.append(float(np.mean(values)))
        if None not in errors:
            over = float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
            variances.append(float(np.mean(errors)) ** 2 + over)
    value, k = float(np.mean(means)), len(means)
    by_groups, chances = None, []
    if len(variances) == k:
        error = sum(variances) ** 0.5 / k
        by_groups = (value - Z * error, value + Z * error)
        chances.append(normal_probability(value / error) if error > 0 else _sign(value))
    # Without folds and without groups to draw from, only the spread over repeats is left.
    spread = means if k > 1 else [] if by_groups else [read(m)[0] for repeats in folds.values() for m in repeats]
    by_spread = t_interval(spread)
    if by_spread:
        error = float(np.std(spread, ddof=1)) / len(spread) ** 0.5
        chances.append(t_probability(value / error, len(spread) - 1) if error > 0 else _sign(value))
    both = [(i, name) for i, name in ((by_groups, "groups"), (by_spread, f"t over {len(spread)} {'folds' if k > 1 else 'repeats'}")) if i]
    wider = max(both, key=lambda pair: pair[0][1] - pair[0][0], default=None)
    return {
        "value": value, "ci_low": wider[0][0] if wider else None, "ci_high": wider[0][1] if wider else None,
        "interval": wider[1] if wider else None, "interval_groups": by_groups, "interval_t": by_spread,
        "p_better": min(chances, key=lambda p: abs(p - 0.5)) if chances else None,
    }  # fmt: skip


def _difference(level: str) -> Read:
    return lambda m: (m[f"vs_{level}"]["difference"], m[f"vs_{level}"].get("sd"))


def _sign(value: float) -> float:
    return 1.0 if value > 0 else 0.0 if value < 0 else 0.5


def _clip(value: float | None, low: float | None, high: float | None) -> float | None:
    if value is None:
        return None
    return max(value, low) if low is not None and value < low else min(value, high) if high is not None else value


def _total(folds: dict[int, list[dict]], key: str) -> int | None:
    """Folds hold different items, which add up; repeats hold the same."""
    known = [[m[key] for m in repeats if m.get(key) is not None] for repeats in folds.values()]
    return sum(max(values) for values in known) if all(known) else None


def _added(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(sum(known), 3) if known else None


def gathered_as(run: str) -> str:
    """Under which name a run is gathered: its model's; a merge or a promoted slot stands for itself."""
    return SUFFIX.sub("", run)


def merged_run(merge: str) -> str:
    """The run that a merge's figures are of, from its folder's name: housebrain-seed2 → housebrain-merged-seed2."""
    return SUFFIX.sub(lambda found: f"-merged{found[0]}", merge, count=1)


def merge_of(run: str) -> str:
    """The folder's name again; empty for what is no merge's run."""
    return MERGED.sub("", run) if MERGED.search(run) else ""


def fold_of(run: dict[str, Any]) -> int:
    """The fold of a run, 0 for none: from its settings, else from its name."""
    settings = (run.get("meta_info") or {}).get("settings") or {}
    if isinstance(settings.get("fold"), int):
        return settings["fold"]
    match = SUFFIX.search(run["run"])
    return int(match["fold"] or 0) if match else 0
