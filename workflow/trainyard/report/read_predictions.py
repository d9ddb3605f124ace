"""Confusion and reliability of class parts, counted from predictions.parquet and pooled over a model's runs."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.report.loose import Loose
from trainyard.report.views.extras import Tally
from trainyard.report.views.runs import Model

BINS = 10
MOST_CLASSES = 24


def read_tallies(files: Loose, suite: str, folder: Path, models: list[Model]) -> list[Tally]:
    """A tally for every class part of every model that has test predictions."""
    found = []
    for model in models:
        pooled: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        first_id = ""
        for run in model.runs:
            path = folder / "runs" / run.name / "predictions.parquet"
            if path.exists() and any(s.kind in ("class", "") for s in run.scores):
                for part, target, probabilities, sample in _class_parts(files, path):
                    pooled[part].append((target, probabilities))
                    first_id = first_id or sample
        for part, runs in pooled.items():
            width = runs[0][1].shape[1]
            runs = [r for r in runs if r[1].shape[1] == width]
            if 2 <= width <= MOST_CLASSES:
                names = _class_names(files, folder, model, first_id, width)
                target, probabilities = np.concatenate([r[0] for r in runs]), np.concatenate([r[1] for r in runs])
                found.append(_tally(suite, model.name, part, names, target, probabilities, len(runs)))
    return found


def _class_parts(files: Loose, path: Path) -> list[tuple[str, np.ndarray, np.ndarray, str]]:
    """(part, target (n,), probabilities (n, classes), the first sample's id) of the test split."""
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read(columns=["id", "part", "split", "kind", "target", "prediction"]).combine_chunks()
        split, kind, part = (_coded(table, name) for name in ("split", "kind", "part"))
        chosen = (split[0] == _code(split, "test")) & (kind[0] == _code(kind, "class"))
        found = []
        for code, name in enumerate(part[1]):
            rows = np.flatnonzero(chosen & (part[0] == code))
            if len(rows):
                target, probabilities = (_lists(table, column, rows) for column in ("target", "prediction"))
                found.append((str(name), target[:, 0].astype(np.int64), probabilities, str(table.column("id")[int(rows[0])].as_py())))
        return found
    except Exception as error:  # pyarrow raises many kinds for a file that is not parquet
        files.problems.append(f"{files.name(path)}: {error}")
        return []


def _coded(table: Any, column: str) -> tuple[np.ndarray, list[str]]:
    """A column of words as codes (n,) and the words."""
    encoded = table.column(column).combine_chunks().dictionary_encode()
    return _numbers(encoded.indices), encoded.dictionary.to_pylist()


def _numbers(array: Any) -> np.ndarray:
    """An array without nulls, mapped. Not array.to_numpy(): that imports pandas, which costs more than the whole page."""
    types = {"int32": np.int32, "float": np.float32, "double": np.float64, "int64": np.int64}
    if array.null_count:
        raise ValueError("missing values among predictions")
    return np.frombuffer(array.buffers()[1], types[str(array.type)])[array.offset : array.offset + len(array)]


def _code(column: tuple[np.ndarray, list[str]], word: str) -> int:
    return column[1].index(word) if word in column[1] else -1


def _lists(table: Any, column: str, rows: np.ndarray) -> np.ndarray:
    """Lists of equal length as an array (rows, length)."""
    lists = table.column(column).combine_chunks()
    offsets, values = _numbers(lists.offsets), _numbers(lists.values)
    starts, lengths = offsets[rows], np.diff(offsets)[rows]
    if (lengths != lengths[0]).any() or not lengths[0]:
        raise ValueError(f"{column}: lists of different lengths in one class part")
    return values[starts[:, None] + np.arange(lengths[0])]


def _class_names(files: Loose, folder: Path, model: Model, sample: str, width: int) -> tuple[str, ...]:
    """The classes of the data set the sample is of, read from its pack's header; else plain numbers."""
    for run in model.runs:
        named = run.settings.get("classes")
        if isinstance(named, list) and len(named) == width:
            return tuple(map(str, named))
    fitting = [(pack, classes) for pack, classes in _pack_classes(files, folder) if len(classes) == width]
    if len(fitting) > 1:
        fitting = [f for f in fitting if _holds(folder / "data" / f[0] / "splits.parquet", sample)] or fitting
    if len({f[1] for f in fitting}) == 1:
        return fitting[0][1]
    return tuple(str(i) for i in range(width))


def _pack_classes(files: Loose, folder: Path) -> list[tuple[str, tuple[str, ...]]]:
    import json

    from trainyard.data.tensors import read_header

    found = []
    for dataset in sorted((folder / "packs").glob("*")):
        pack = next((p for p in (dataset / "test.safetensors", dataset / "all.safetensors") if p.exists()), None)
        try:
            meta: dict[str, Any] = json.loads(read_header(pack).metadata.get("trainyard", "{}")) if pack else {}
        except (OSError, ValueError) as error:
            files.problems.append(f"{files.name(pack)}: {error}")  # type: ignore[arg-type]
            continue
        if isinstance(meta.get("classes"), list):
            found.append((dataset.name, tuple(map(str, meta["classes"]))))
    return found


def _holds(splits: Path, sample: str) -> bool:
    import pyarrow.parquet as pq

    try:
        return sample in set(pq.ParquetFile(splits).read(columns=["id"]).column("id").to_pylist())
    except Exception:  # no table, or not parquet: the caller falls back to numbers
        return False


def _tally(suite: str, model: str, part: str, names: tuple[str, ...], target: np.ndarray, p: np.ndarray, runs: int) -> Tally:
    width = p.shape[1]
    counts = np.zeros((width, width), np.int64)
    keep = (target >= 0) & (target < width)
    np.add.at(counts, (target[keep], p[keep].argmax(1)), 1)
    reliability = []
    # Two classes: the probability of the second; more: the confidence of the chosen class, against how often it is right.
    confidence, right = (p[keep, 1], target[keep] == 1) if width == 2 else (p[keep].max(1), p[keep].argmax(1) == target[keep])
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for b in range(BINS):
        inside = bins == b
        if inside.any():
            reliability.append((float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum())))
    return Tally(suite, model, part, names, tuple(tuple(int(v) for v in row) for row in counts), tuple(reliability), runs)
