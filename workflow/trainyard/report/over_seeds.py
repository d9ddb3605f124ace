"""The merges that several seeds of one model ended in, side by side: what they gain on their shards, paired seed by seed."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainyard.report.gather import gathered_as
from trainyard.report.intervals import t_interval
from trainyard.report.views.merges import Merge, OverSeeds, Rival

MACHINE = ("seconds_an_answer", "memory_gb", "megabytes")  # no matter of seeds
SEED = re.compile(r"-seed\d+$")


def over_seeds(merges: Sequence[Merge]) -> list[OverSeeds]:
    """One for every model of which two or more seeds were merged and validated. Means have a 95 % interval of Student's t over the
    seeds: of the figures themselves, and of each seed's own difference to what its merge is held against."""
    models: dict[str, list[Merge]] = {}
    for merge in merges:
        if SEED.search(merge.model) and merge.decided and merge.shown:
            models.setdefault(gathered_as(merge.model), []).append(merge)
    return [_of(model, found) for model, found in models.items() if len(found) > 1]


def _of(model: str, merges: list[Merge]) -> OverSeeds:
    shown = [next((c for c in m.candidates if c.name == m.shown), None) for m in merges]
    figures: dict[str, list[float]] = {}
    for candidate in shown:
        for key, value in (candidate.figures if candidate else {}).items():
            if value is not None and key not in MACHINE:
                figures.setdefault(key, []).append(value)
    gaps: dict[str, list[float]] = {}
    for merge in merges:
        for rival in merge.rivals:
            gaps.setdefault(SEED.sub("", rival.name), []).append(rival.difference)
    whole = lambda found: {key: values for key, values in found.items() if len(values) == len(merges)}  # noqa: E731
    return OverSeeds(
        model,
        tuple(m.model for m in merges),
        _kinds(merges),
        {key: _mean(values) for key, values in whole(figures).items()},
        tuple(Rival(name, *_mean(values), len(values)) for name, values in whole(gaps).items()),
        {name: tuple(values) for name, values in whole(gaps).items()},
    )


def _mean(values: list[float]) -> tuple[float, Any, Any]:
    low, high = t_interval(values) or (None, None)
    return float(np.mean(values)), low, high


def _kinds(merges: list[Merge]) -> str:
    """What was accepted, in words: "average" or "average in 2, best in 1"."""
    counts = Counter(m.accepted or f"none accepted, {m.shown} shown" for m in merges)
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{name} in {n}" for name, n in counts.items())
