"""The three splits of a run, opened and held against each other: what would train on its own test data is refused. Needs no torch."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.views import View, open_pack, open_view

# What numbers in a pack mean: the same in all packs of a run, or a label is another class in one of them.
MEANINGS = ("classes", "target_names", "numeric", "categorical")


def open_splits(job: Mapping[str, Any], packs: Mapping[str, str | Path]) -> dict[str, View]:
    """A view for each split that `packs` names. Raises ValueError for packs that do not fit the run, or one another."""
    check_packs(job, packs)
    return {split: open_view(path, split, job["fold"]) for split, path in packs.items()}


def check_packs(job: Mapping[str, Any], packs: Mapping[str, str | Path]) -> None:
    """`job`: format and fold. Raises ValueError that names the file."""
    opened = {split: open_pack(path) for split, path in packs.items()}
    for split, path in packs.items():
        pack = opened[split]
        if (found := pack.meta.get("format", job["format"])) != job["format"]:
            raise ValueError(f"{path}: holds {found}, and the run reads {job['format']}; give the {split} pack of its own dataset")
        _check_fold(job["fold"], pack, path)
        for name in MEANINGS:
            first, other = (json.dumps(opened[s].meta.get(name)) for s in (next(iter(packs)), split))  # in order, mappings too
            if first != other:
                raise ValueError(f"{path}: its {name} are others than those of {next(iter(packs.values()))}; give packs of one local copy")
    places = {split: os.path.realpath(path) for split, path in packs.items()}
    twice = [(a, b) for a in places for b in places if a < b and places[a] == places[b]]
    if twice and not job["fold"]:
        raise ValueError(f"{packs[twice[0][0]]}: is given for {' and '.join(twice[0])}; without folds each split has a pack of its own")


def _check_fold(fold: int, pack: Any, path: str | Path) -> None:
    there = int(np.max(pack.fixed("fold"), initial=0)) if "fold" in pack and hasattr(pack, "fixed") else 0
    if fold and not there:
        raise ValueError(f"{path}: holds no folds, and the run is of fold {fold}; give the pack of all samples, or fold 0")
    if there and not 1 <= fold <= there:
        raise ValueError(f"{path}: holds {there} folds, all samples; the run's fold must be one of them, not {fold}")
