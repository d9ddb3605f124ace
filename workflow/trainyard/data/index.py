"""The index: a row a sample, from names, tables and byte offsets, without opening a sample file.

| column | |
|---|---|
| id | unique: the path below the root, or `path#row` |
| path | below the root, as text (see names) |
| row | number of a table's row, byte offset of a JSON row; -1 for whole files |
| size | bytes of the file or row |
| label, group | texts; label is null without a rule; group equals id when groups are unknown |
| extra | the row of annotations or of the table as JSON, or null |
| refused | why the sample cannot be used, or null |
The parquet metadata entry `trainyard` says what the rows cannot: format, whether groups are known, remarks, and size and
time of the files that offsets point into.
"""

import contextlib
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.base import nearest
from trainyard.config.features import FEATURES
from trainyard.config.schema import Dataset
from trainyard.config.validation import validate
from trainyard.data.annotations import join_rows, path_key, read_json_row, read_rows
from trainyard.data.arrow import ROW_GROUP, make_table, number_column
from trainyard.data.columns import Column
from trainyard.data.errors import DataError
from trainyard.data.files import replacing, unit_hash
from trainyard.data.lines import scan_files
from trainyard.data.names import from_text, to_text
from trainyard.data.rules import SHARED, Row, ValueFinder
from trainyard.data.table_file import BAD_ROW, table_rows
from trainyard.data.texts import Texts
from trainyard.data.walk import Found, base_folder, list_samples, walk

COLUMNS = ("id", "path", "row", "size", "label", "group", "extra", "refused")


def typed_dataset(settings: Mapping[str, Any]) -> Dataset:
    """The settings of a dataset as their typed object; the root's place is given apart. Raises ConfigError."""
    values = {k: v for k, v in settings.items() if k not in ("suite", "dataset")}
    dataset = validate(Dataset, {"root": ".", **values} if values.get("root") is None else values, "settings")
    return dataset.model_copy(update={"features": validate(FEATURES[dataset.format], dataset.features, "settings: features")})


class Samples:
    """What the index is made of, in columns that hold no Python object a row; label and group are found while rows pass by."""

    def __init__(self, root: Path, dataset: Dataset, keep_rows: bool = True):
        self.id, self.path, self.extra = Texts(), Texts(), Texts()
        self.row, self.size = array("q"), array("q")
        self.refused: dict[int, str] = {}
        self.notes: list[str] = []
        self.sources: list[dict[str, Any]] = []
        self._keep_rows = keep_rows
        rules = {"label": dataset.label, "group": dataset.group}
        self._finders = {what: None if rule is None else ValueFinder(rule, what, str(root)) for what, rule in rules.items()}

    def add(self, id: str, path: str, row: int, size: int, refused: str | None = None, extra: Row = None) -> None:
        if refused is not None:
            self.refused[len(self)] = refused
        for finder in self._finders.values():
            if finder is not None and refused is None:
                finder.add(path, extra)
            elif finder is not None:
                finder.skip()
        self.id.append(id)
        self.path.append(path)
        self.row.append(row)
        self.size.append(size)
        self.extra.append(json.dumps(extra) if self._keep_rows and extra is not None else None)

    def values(self) -> dict[str, list[str | None]]:
        """Labels and groups; samples without one are refused. Raises DataError when a rule finds none at all."""
        found: dict[str, list[str | None]] = {}
        for what, finder in self._finders.items():
            values, reasons = ([None] * len(self), {}) if finder is None else finder.finish(self.path)
            found[what] = values
            self.refused |= {i: reason for i, reason in reasons.items() if i not in self.refused}
        return found

    def __len__(self) -> int:
        return len(self.id)


def build_index(root: Path, dataset: Dataset):
    """The index of a root as a pyarrow table with its metadata. Raises DataError, ConfigError, TableError."""
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; mount it or correct the root")
    build = {"tabular": _table, "chat": _chat, "paired": _paired}.get(dataset.format, _files)
    samples = build(root, dataset)
    values = samples.values()
    keep = _subset(samples, dataset)
    return _arrow(samples, dataset, values, keep)


def write_index(table, path: str | os.PathLike) -> None:
    """Write atomically."""
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)


def open_index(path: str | os.PathLike) -> tuple[dict[str, Column], dict[str, Any]]:
    """Columns of an index that are read as they are looked at, so that memory does not grow with the samples, and its metadata. Raises
    DataError."""
    file = _parquet(path)
    return {name: Column(file, name) for name in COLUMNS}, _metadata(file)


def read_index(path: str | os.PathLike, columns: Sequence[str] = COLUMNS) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns as lists (of numbers as arrays), equal texts shared, and the metadata of an index. Raises DataError."""
    import pyarrow as pa

    file = _parquet(path)
    try:
        out: dict[str, Any] = {name: array("q") if name in ("row", "size") else [] for name in columns}
        shared: dict[str, str] = {}
        for batch in file.iter_batches(ROW_GROUP, columns=list(columns)):
            for name in columns:
                values = batch[name].to_pylist()
                if name in ("path", "label", "group", "refused") and len(shared) < SHARED:
                    values = [None if v is None else shared.setdefault(v, v) for v in values]
                if name == "group" and "id" in columns:  # without a rule a sample is its own group
                    ids = out["id"][-len(values) :]
                    values = [i if i == v else v for i, v in zip(ids, values)]
                out[name].extend(values)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from None
    return out, _metadata(file)


def _parquet(path: str | os.PathLike) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from None
    if missing := [c for c in COLUMNS if c not in file.schema_arrow.names]:
        raise DataError(f"{path}: no index: it has no column {', '.join(missing)}; make it with index_dataset.py")
    return file


def _unreadable(path: str | os.PathLike, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable index: {' '.join(str(error).split())}; make it with index_dataset.py")


def _metadata(file: Any) -> dict[str, Any]:
    return json.loads((file.schema_arrow.metadata or {}).get(b"trainyard", b"{}"))


def _files(root: Path, dataset: Dataset) -> Samples:
    """One sample a file, joined with annotations where there are any."""
    samples = Samples(root, dataset)
    file = _annotations_file(root, dataset) if dataset.annotations else None
    found = list_samples(root, dataset.glob, dataset.format, [dataset.annotations] if dataset.annotations else [])
    rows, joined = [], [-1] * len(found)
    if file is not None:
        rows = [row for _, _, row in read_rows(file) if isinstance(row, dict)]
        key = path_key(rows, dataset.fields.get("path"), file)
        joined, samples.notes = join_rows([f.path for f in found], rows, key, root)
        if found and not any(j >= 0 for j in joined):
            raise DataError(
                f"{file}: none of its {len(rows)} rows names one of the {len(found)} files: '{key}' of the first is "
                f"'{rows[0].get(key)}', the first file is '{found[0].path}'; correct fields.path or the root"
            )
    for file_found, number in zip(found, joined):
        samples.add(file_found.path, file_found.path, -1, file_found.size, file_found.refused, rows[number] if number >= 0 else None)
    return samples


def _paired(root: Path, dataset: Dataset) -> Samples:
    """One sample a row of annotations; the row names its files."""
    if not dataset.annotations:
        raise DataError(f"{root}: paired data need `annotations`: the file whose rows name an audio and a MIDI file each")
    file = _annotations_file(root, dataset)
    samples = Samples(root, dataset)
    samples.sources.append(_source(file, dataset.annotations))
    rows = read_rows(file)
    key = dataset.fields.get("audio", "audio")
    good = [row for _, _, row in rows if isinstance(row, dict)]
    if not any(key in row for row in good):
        known = list(good[0]) if good else []
        raise DataError(f"{file}: no row has '{key}', which fields.audio asks for{nearest(key, known)}")
    base = base_folder(root)
    sizes = {f.path: f for f in walk(base, lambda path: True)}
    seen: set[str] = set()
    for number, (offset, size, row) in enumerate(rows):
        if not isinstance(row, dict):
            samples.add(f"{dataset.annotations}#{number}", dataset.annotations, offset, size, f"row {number + 1} is {row}")
            continue
        path = _below(str(row.get(key)), base)
        id = f"{path}#{number}" if path in seen else path
        seen.add(id)
        there = sizes.get(path, Found(path, 0))
        samples.add(id, path, offset, there.size, there.refused, row)
    return samples


def _table(root: Path, dataset: Dataset) -> Samples:
    """One sample a row of the one table."""
    path, name = find_table(root, dataset)
    samples = Samples(root, dataset)
    samples.sources.append(_source(path, name))
    for number, row in enumerate(table_rows(path)):
        samples.add(f"{name}#{number}", name, number, 0, row.get(BAD_ROW) or None, {k: v for k, v in row.items() if k != BAD_ROW})
    if not len(samples):
        raise DataError(f"{path}: the table has a header and no rows")
    return samples


def find_table(root: Path, dataset: Dataset) -> tuple[Path, str]:
    """The one table of a root and its name below it. Raises DataError when there are several."""
    found = [f for f in list_samples(root, dataset.glob, "tabular") if f.refused is None]
    if len(found) > 1:
        names = ", ".join(f"'{f.path}'" for f in found[:4])
        raise DataError(
            f"{root}: {len(found)} tables ({names}{', …' if len(found) > 4 else ''}); give a glob that fits one, or the file as root"
        )
    return base_folder(root) / from_text(found[0].path), found[0].path


def _chat(root: Path, dataset: Dataset) -> Samples:
    """One sample a row of every JSON file, by byte offset; rows are parsed only when a rule looks into them."""
    rules = [rule for rule in (dataset.label, dataset.group) if rule is not None]
    parse = any(rule.column is not None or rule.field is not None for rule in rules)
    samples = Samples(root, dataset, keep_rows=False)
    base = base_folder(root)
    files = list_samples(root, dataset.glob, "chat")
    scanned = scan_files(base / from_text(f.path) for f in files if f.refused is None)
    for found in files:
        rows = next(scanned) if found.refused is None else found.refused
        if isinstance(rows, str):
            samples.add(found.path, found.path, -1, 0, rows)
            continue
        path = base / from_text(found.path)
        samples.sources.append(_source(path, found.path))
        starts, sizes = rows
        with open(path, "rb") if parse else contextlib.nullcontext() as file:
            for number, (start, size) in enumerate(zip(map(int, starts), map(int, sizes))):
                row, why = None, None
                if file is not None:
                    file.seek(start)
                    try:
                        row = read_json_row(file.read(size))
                    except ValueError as error:
                        why = str(error)
                samples.add(f"{found.path}#{number}", found.path, start, size, why, row)
    if not len(samples):
        raise DataError(f"{root}: its JSON files hold no rows")
    return samples


def _annotations_file(root: Path, dataset: Dataset) -> Path:
    file = base_folder(root) / (dataset.annotations or "")
    if not file.is_file():
        near = [to_text(p.name) for p in file.parent.iterdir() if p.is_file()] if file.parent.is_dir() else []
        raise DataError(f"{file}: no such file of annotations{nearest(file.name, sorted(near)[:20])}")
    return file


def _below(path: str, base: Path) -> str:
    """A path of an annotation as one below the root, where it is."""
    path = path.strip().removeprefix("./")
    return path.removeprefix(str(base).rstrip("/") + "/") if path.startswith("/") else path


def _source(path: Path, name: str) -> dict[str, Any]:
    status = path.stat()
    return {"path": name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _subset(samples: Samples, dataset: Dataset) -> np.ndarray | None:
    """The numbers of the samples to keep, or None for all."""
    if dataset.subset_size is None or len(samples) - len(samples.refused) <= dataset.subset_size:
        return None
    good = np.array([i for i in range(len(samples)) if i not in samples.refused], np.int64)
    # By hash, so a larger subset holds the smaller one, on any machine.
    salt = f"subset:{dataset.seed}"
    hashes = np.fromiter((unit_hash(samples.id[i] or "", salt) for i in good.tolist()), float, len(good))
    chosen = good[np.argsort(hashes, kind="stable")[: dataset.subset_size]]
    samples.notes.append(f"subset: {dataset.subset_size} of {len(good)} samples, by hash")
    return np.sort(np.concatenate([chosen, np.array(sorted(samples.refused), np.int64)]))


def _arrow(samples: Samples, dataset: Dataset, values: dict[str, list[str | None]], keep: np.ndarray | None):
    texts = {"label": Texts(), "group": Texts(), "refused": Texts()}
    for i, (label, group) in enumerate(zip(values["label"], values["group"])):
        texts["label"].append(label)
        texts["group"].append(samples.id[i] if group is None else group)
        texts["refused"].append(samples.refused.get(i))
    values.clear()
    columns = {
        "id": samples.id.column(), "path": samples.path.column(), "row": number_column(np.frombuffer(samples.row, np.int64), np.int64),
        "size": number_column(np.frombuffer(samples.size, np.int64), np.int64), "label": texts["label"].column(),
        "group": texts["group"].column(), "extra": samples.extra.column(), "refused": texts["refused"].column(),
    }  # fmt: skip
    meta = {
        "format": dataset.format, "groups_known": dataset.group is not None, "labels_known": dataset.label is not None,
        "annotations": dataset.annotations, "notes": samples.notes, "sources": samples.sources,
    }  # fmt: skip
    table = make_table(columns, {"trainyard": json.dumps(meta)})
    return table if keep is None else table.take(number_column(keep, np.int64))
