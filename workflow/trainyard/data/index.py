"""Making an index: a row a sample (see index_file), from names, tables and byte offsets, without opening a sample file."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainyard.config.base import ConfigError, nearest
from trainyard.config.dataset import Dataset
from trainyard.config.features import FEATURES
from trainyard.config.validation import validate
from trainyard.data.annotations import join_rows, path_key, read_json_row, read_rows
from trainyard.data.errors import DataError
from trainyard.data.lines import ROW_BYTES, scan_files
from trainyard.data.names import from_text, shorten, to_text
from trainyard.data.rules import look_up
from trainyard.data.samples import Samples
from trainyard.data.table_file import BAD_ROW, table_rows
from trainyard.data.walk import Found, base_folder, compile_globs, list_samples, walk


def typed_dataset(settings: Mapping[str, Any]) -> Dataset:
    """The settings of a dataset as their typed object; the root's place is given apart. Raises ConfigError."""
    values = {k: v for k, v in settings.items() if k not in ("suite", "dataset")}
    dataset = validate(Dataset, {"root": ".", **values} if values.get("root") is None else values, "settings")
    try:
        compile_globs(dataset.glob)
    except re.error as error:
        raise ConfigError(f"settings: glob: {' or '.join(dataset.glob)}: {error.msg}") from None
    return dataset.model_copy(update={"features": validate(FEATURES[dataset.format], dataset.features, "settings: features")})


def build_index(root: Path, dataset: Dataset):
    """The index of a root as a pyarrow table with its metadata. Raises DataError, ConfigError, TableError."""
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; mount it or correct the root")
    build = {"tabular": _table, "chat": _chat, "paired": _paired}.get(dataset.format, _files)
    return build(root, dataset).table(dataset)


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
                f"'{look_up(rows[0], key)}', the first file is '{found[0].path}'; correct fields.path or the root"
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
    samples.add_source(file, dataset.annotations)
    rows = read_rows(file)
    key = dataset.fields.get("audio", "audio")
    good = [row for _, _, row in rows if isinstance(row, dict)]
    if not any(look_up(row, key) for row in good):
        known = list(good[0]) if good else []
        raise DataError(f"{file}: no row has '{key}', which fields.audio asks for{nearest(key, known)}")
    base = base_folder(root)
    sizes = {f.path: f for f in walk(base, lambda path: True)}
    seen: set[str] = set()
    for number, (offset, size, row) in enumerate(rows):
        if not isinstance(row, dict):
            samples.add(f"{dataset.annotations}#{number}", dataset.annotations, offset, size, f"row {number + 1} is {row}")
            continue
        path = _below(str(look_up(row, key)), base)
        id = f"{path}#{number}" if path in seen else path
        seen.add(id)
        there = sizes.get(path, Found(path, 0))
        samples.add(id, path, offset, there.size, there.refused, row)
    return samples


def _table(root: Path, dataset: Dataset) -> Samples:
    """One sample a row of the one table."""
    path, name = find_table(root, dataset)
    samples = Samples(root, dataset)
    samples.add_source(path, name)
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
        samples.add_source(path, found.path)
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
    if len(samples) == 1 and not isinstance(rows, str):
        _refuse_nested(path, int(starts[0]), int(sizes[0]))
    return samples


def _refuse_nested(path: Path, start: int, size: int) -> None:
    """A file's one object is the only row of all data: what is meant as rows lies inside it. Raises DataError."""
    with open(path, "rb") as file:
        file.seek(start)
        try:
            keys = ", ".join(f"'{shorten(key, 40)}'" for key in list(read_json_row(file.read(min(size, ROW_BYTES))))[:8])
        except ValueError as error:
            raise DataError(f"{path}: one row, and it is not usable: {error}; write a JSON object a line, or a JSON list of them") from None
    raise DataError(
        f"{path}: one JSON object and no list of rows (its keys: {keys}); write the rows inside it as a JSON list, or a row a line"
    )


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
