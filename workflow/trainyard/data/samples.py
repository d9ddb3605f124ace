"""The samples of an index while it is made: columns of bytes and numbers, no Python object a row."""

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.dataset import Dataset
from trainyard.data.arrow import make_table, number_column
from trainyard.data.files import unit_hash
from trainyard.data.rules import Row, ValueFinder
from trainyard.data.texts import Texts


class Samples:
    """Samples in the order in which they are added; label and group are found while rows pass by."""

    def __init__(self, root: Path, dataset: Dataset, keep_rows: bool = True):
        self.notes: list[str] = []
        self._id, self._path, self._extra = Texts(), Texts(), Texts()
        self._row, self._size = array("q"), array("q")
        self._refused: dict[int, str] = {}
        self._sources: list[dict[str, Any]] = []
        self._keep_rows = keep_rows
        rules = {"label": dataset.label, "group": dataset.group}
        self._finders = {what: ValueFinder(rule, what, str(root)) for what, rule in rules.items() if rule is not None}

    def add(self, id: str, path: str, row: int, size: int, refused: str | None = None, extra: Row = None) -> None:
        if refused is not None:
            self._refused[len(self)] = refused
        for finder in self._finders.values():
            if refused is None:
                finder.add(path, extra)
            else:
                finder.skip()
        self._id.append(id)
        self._path.append(path)
        self._row.append(row)
        self._size.append(size)
        self._extra.append(json.dumps(extra) if self._keep_rows and extra is not None else None)

    def add_source(self, path: Path, name: str) -> None:
        """A file into which rows point: as it is now."""
        status = path.stat()
        self._sources.append({"path": name, "size": status.st_size, "mtime_ns": status.st_mtime_ns})

    def table(self, dataset: Dataset) -> Any:
        """The index as a pyarrow table with its metadata; nothing can be added any more. Samples without a label or group that a rule
        asks for are refused. Raises DataError when a rule finds none at all."""
        found: dict[str, Texts] = {}
        for what, finder in self._finders.items():
            found[what], reasons = finder.finish(self._path)
            self._refused = reasons | self._refused
        keep = self._subset(dataset)
        label, group, refused = found.get("label"), found.get("group"), Texts()
        for i in range(len(self)):
            refused.append(self._refused.get(i))
        columns = {
            "id": self._id.column(), "path": self._path.column(), "row": number_column(np.asarray(self._row), np.int64),
            "size": number_column(np.asarray(self._size), np.int64),
            "label": (Texts.missing(len(self)) if label is None else label).column(),
            "group": (self._id if group is None else group.or_else(self._id)).column(),
            "extra": self._extra.column(), "refused": refused.column(),
        }  # fmt: skip
        meta = {
            "format": dataset.format, "groups_known": dataset.group is not None, "labels_known": dataset.label is not None,
            "annotations": dataset.annotations, "notes": self.notes, "sources": self._sources,
        }  # fmt: skip
        table = make_table(columns, {"trainyard": json.dumps(meta)})
        return table if keep is None else table.take(number_column(keep, np.int64))

    def __len__(self) -> int:
        return len(self._id)

    def _subset(self, dataset: Dataset) -> np.ndarray | None:
        """The numbers of the samples to keep, or None for all."""
        if dataset.subset_size is None or len(self) - len(self._refused) <= dataset.subset_size:
            return None
        good = np.array([i for i in range(len(self)) if i not in self._refused], np.int64)
        # By hash, so a larger subset holds the smaller one, on any machine.
        salt = f"subset:{dataset.seed}"
        hashes = np.fromiter((unit_hash(self._id[i] or "", salt) for i in good.tolist()), float, len(good))
        chosen = good[np.argsort(hashes, kind="stable")[: dataset.subset_size]]
        self.notes.append(f"subset: {dataset.subset_size} of {len(good)} samples, by hash")
        return np.sort(np.concatenate([chosen, np.array(sorted(self._refused), np.int64)]))
