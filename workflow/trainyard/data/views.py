"""Which rows of which pack a run trains, validates and tests on."""

import importlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        # By name: a change of it must not count as a change of every other model's code.
        return importlib.import_module("trainyard.data.chat_pack").ChatPack(path)
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


def labelled(pack: Any, rows: np.ndarray) -> np.ndarray:
    """Those of the rows that have a label."""
    rows = np.asarray(rows, np.int64)
    return rows[np.asarray(pack.fixed("label"))[rows] >= 0]


@contextmanager
def joined(paths: Sequence[str | Path]) -> Iterator[Path]:
    """One pack for several: itself, or chat shards end to end in a temporary file."""
    if len(paths) == 1:
        yield Path(paths[0])
        return
    if not all(str(p).endswith(".jsonl") for p in paths):
        raise ValueError("only chat packs (.jsonl) can be joined: give one pack")
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "train.jsonl"
        with open(whole, "wb") as out:
            for path in paths:
                with open(path, "rb") as part:
                    shutil.copyfileobj(part, out, 1 << 20)
        yield whole
