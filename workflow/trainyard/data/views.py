"""Which rows of which pack a run trains, validates and tests on."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class View:
    """Some rows of a pack."""

    pack: Any
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def open_pack(path: str | Path):
    """A pack by its suffix: .safetensors, or .jsonl for chat rows."""
    if str(path).endswith(".jsonl"):
        # By name: a change of chat.py must not count as a change of every other model's code.
        return importlib.import_module("trainyard.data.chat").ChatPack(path)
    from trainyard.data.pack import Pack

    return Pack(path)


def open_view(path: str | Path, split: str, fold: int = 0) -> View:
    """The rows of a split ("train", "validation", "test").

    Without folds a pack is a split and all its rows are meant. With fold f (from 1) the pack holds everything:
    test are the rows of fold f; of the others, those marked `inner` are for validation.
    """
    pack = open_pack(path)
    if not fold:
        return View(pack, np.arange(len(pack)))
    folds, inner = np.asarray(pack.fixed("fold")), np.asarray(pack.fixed("inner")).astype(bool)
    chosen = {"test": folds == fold, "validation": (folds != fold) & inner, "train": (folds != fold) & ~inner}[split]
    return View(pack, np.flatnonzero(chosen))
