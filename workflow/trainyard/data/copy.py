"""The local copy: each file is opened once, hashed, decoded and packed, or refused with a reason.

Splits are packed in the order test, validation, train, so that of equal contents the one in the earlier split stays and no
content is in two. Within a pack, samples lie in the order of the index, whatever ran in parallel. Everything is written
into a folder of its own and moved into place at the end: a copy that is killed leaves nothing that looks finished.
"""

import contextlib
import csv
import errno
import importlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.schema import Dataset
from trainyard.data.errors import DataError
from trainyard.data.files import write_json
from trainyard.data.index import find_table, read_index, typed_dataset
from trainyard.data.loading import FileLoader, Loaded, RowLoader, Sample, TableLoader
from trainyard.data.names import shorten
from trainyard.data.refused import Refused
from trainyard.data.sources import MAX_BYTES, SourceFolder
from trainyard.data.storage import free_bytes
from trainyard.data.walk import base_folder
from trainyard.data.workers import Decoded, DecodePool, Task

CHUNK_FILES, CHUNK_BYTES = 32, 4 << 20
ESTIMATE_AFTER = 64  # samples; then it is known how large a packed one is
SECONDS = 60.0  # a format without parse_seconds of its own
ROW_BYTES = 64 << 20
PRIORITY = ("all", "test", "validation", "train")


@dataclass(frozen=True)
class Limits:
    """How the copy may use the machine. None of it changes what is written."""

    workers: int = 1
    reads: int = 16
    max_bytes: int = MAX_BYTES
    memory_mb: int = 4096


@dataclass
class _Part:
    """What went into one pack."""

    samples: int = 0
    labels: Counter = field(default_factory=Counter)
    groups: set[str] = field(default_factory=set)
    folds: Counter = field(default_factory=Counter)


class LocalCopy:
    """One run of the copy step. `reader` ("module:Class") stands in for the format's own in tests."""

    def __init__(self, root: Path, index: str, splits: str, settings: Mapping[str, Any], limits: Limits, reader: str | None = None):
        self.root, self.settings, self.limits = Path(root).expanduser(), settings, limits
        self.dataset: Dataset = typed_dataset(settings)
        self.index, self.index_meta = read_index(index)
        self.splits = _read_splits(splits, self.index["id"])
        name = self.dataset.format
        self.target = reader or f"trainyard.data.{name}:{name.capitalize()}Reader"
        good = [i for i, reason in enumerate(self.index["refused"]) if reason is None]
        self.classes = sorted({self.index["label"][i] for i in good} - {None})
        self.codes = {c: i for i, c in enumerate(self.classes)}
        self.quarantine: list[tuple[int, str]] = [(i, r) for i, r in enumerate(self.index["refused"]) if r is not None]
        self.seen: dict[bytes, tuple[int, str]] = {}
        self.parts: dict[str, _Part] = {}
        self.bytes_read = self.bytes_packed = self.files_read = self.restarts = 0
        self.twins = {"same_split": 0, "across_splits": 0}
        self.seconds_of_audio = 0.0
        self._shape: dict[str, tuple] | None = None
        self._checked = False
        self._said = time.monotonic()

    def run(self, output: Path, quarantine: str, summary: str) -> dict[str, Any]:
        """Write packs, quarantine.csv and the summary. Raises DataError and leaves no output then."""
        started = time.monotonic()
        if not self.root.exists():
            raise DataError(f"{self.root}: no such file or folder; mount it or correct the root")
        output.mkdir(parents=True, exist_ok=True)
        _clear(output)
        self.output = output
        work = output / f".copy-{os.getpid()}"
        work.mkdir()
        try:
            names = self._pack_all(work)
            self._check_complete()
            _write_quarantine(work / "quarantine.csv", self._refusals())
            result = self._summary(work, names, time.monotonic() - started)
            write_json(work / "summary.json", result)
            for old in output.iterdir():
                if old.suffix in (".safetensors", ".jsonl") and old.name not in names:
                    old.unlink()
            for name in names:
                os.replace(work / name, output / name)
            _move(work / "quarantine.csv", quarantine)
            _move(work / "summary.json", summary)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DataError(f"{output}: the disk is full after {self.bytes_packed / 1e9:.2f} GB; make room, or use subset_size") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return result

    def _pack_all(self, work: Path) -> list[str]:
        dataset = self.dataset
        features = dataset.features.model_dump(mode="json")
        context = self._context()
        loader: FileLoader | RowLoader | TableLoader
        with contextlib.ExitStack() as stack:
            if dataset.format in ("tabular", "chat"):
                reader = _load(self.target)(dataset.features, self.root, context)
                meta = reader.meta()
                sources = self.index_meta.get("sources", [])
                loader = TableLoader() if dataset.format == "tabular" else RowLoader(base_folder(self.root), sources, ROW_BYTES)
                decode = _decode_here(reader)
            else:
                start = {
                    "reader": self.target, "format": dataset.format, "features": features, "root": str(base_folder(self.root)), "context": context,
                    "seconds": getattr(dataset.features, "parse_seconds", SECONDS), "memory_mb": self.limits.memory_mb,
                }  # fmt: skip
                files = getattr(_load(self.target)(dataset.features, self.root, context), "files", lambda sample: [sample["path"]])
                pool = stack.enter_context(DecodePool(start, self.limits.workers))
                meta, decode = pool.meta, _decode_there(pool)
                loader = FileLoader(SourceFolder(base_folder(self.root), self.limits.max_bytes), files, self.limits.reads)
                self._pool = pool
            stack.callback(loader.close)
            meta = {**meta, "format": dataset.format, "classes": self.classes, "features": features}
            names = []
            for split in PRIORITY:
                rows = [i for i, s in enumerate(self.splits["split"]) if s == split]
                if rows:
                    names += self._pack_split(work, split, rows, loader, decode, meta)
            self.restarts = getattr(getattr(self, "_pool", None), "restarts", 0)
        return names

    def _context(self) -> dict[str, Any]:
        dataset = self.dataset
        context: dict[str, Any] = {"fields": dataset.fields, "classes": self.classes, "annotations": dataset.annotations}
        if dataset.format == "tabular":
            from trainyard.data.tabular import table_context

            context |= table_context(find_table(self.root, dataset)[0], dataset.model_dump(mode="json"))
        prepare = getattr(_load(self.target), "prepare", None)
        if prepare is not None:
            good = (i for i, s in enumerate(self.splits["split"]) if s)
            context |= prepare((self._sample(i) for i in good), context)
        return context

    def _sample(self, i: int) -> Sample:
        row = {name: values[i] for name, values in self.index.items() if name != "refused"}
        return {**row, "extra": json.loads(row["extra"]) if row["extra"] is not None else None, "at": i}

    def _pack_split(self, work: Path, split: str, rows: list[int], loader, decode, meta: dict) -> list[str]:
        shards = self.splits["shard"]
        ending = "jsonl" if self.dataset.format == "chat" else "safetensors"
        names = {s: f"shard-{s:02d}.{ending}" if s else f"{split}.{ending}" for s in sorted({shards[i] for i in rows})}
        with contextlib.ExitStack() as stack:
            writers = {s: stack.enter_context(_writer(work / name, meta)) for s, name in names.items()}
            for name in names.values():
                self.parts[name] = _Part()
            for sample, decoded in decode(self._fresh(split, loader.load(self._sample(i) for i in rows))):
                if decoded.refused is None:
                    decoded = self._alike(decoded)
                if decoded.refused is not None:
                    self.quarantine.append((sample["at"], decoded.refused))
                    continue
                self._add(writers[shards[sample["at"]]], self.parts[names[shards[sample["at"]]]], sample, decoded)
                self._check_room(len(rows))
                self._say(split, len(rows))
        return list(names.values())

    def _fresh(self, split: str, loaded: Iterator[tuple[Sample, Loaded]]) -> Iterator[tuple[Sample, Loaded]]:
        """Those that could be read and whose content was not seen before."""
        for sample, content in loaded:
            self.files_read += len(content.blobs)
            self.bytes_read += sum(map(len, content.blobs))
            if content.refused is not None:
                self.quarantine.append((sample["at"], content.refused))
                continue
            twin = self.seen.get(content.digest)
            if twin is None:
                self.seen[content.digest] = (sample["at"], split)
                yield sample, content
                continue
            other = self.index["id"][twin[0]]
            if twin[1] != split:
                self.twins["across_splits"] += 1
                self.quarantine.append((sample["at"], f"same content as '{other}' in {twin[1]}; it would leak into {split}"))
            elif self.dataset.format == "paired" and self.index["extra"][twin[0]] != self.index["extra"][sample["at"]]:
                yield sample, content  # one performance, annotated twice
            else:
                self.twins["same_split"] += 1
                self.quarantine.append((sample["at"], f"same content as '{other}'; one of them is enough"))

    def _alike(self, decoded: Decoded) -> Decoded:
        """Refuse a sample whose fields are not those of the samples before it: a pack has one shape a field."""
        shape: dict[str, tuple] = {}
        for name, value in decoded.fixed.items():
            shape[name] = ("fixed", np.asarray(value).dtype.str, np.shape(value))
        for name, value in decoded.ragged.items():
            shape[name] = ("text",) if isinstance(value, str) else ("ragged", value.dtype.str, value.shape[1:])
        if self._shape is None:
            self._shape = shape
        if shape == self._shape:
            return decoded
        odd = next(n for n in sorted(shape.keys() | self._shape.keys()) if shape.get(n) != self._shape.get(n))
        return Decoded({}, {}, f"its '{odd}' is {_shape_words(shape.get(odd))}, that of others {_shape_words(self._shape.get(odd))}")

    def _add(self, writer, part: _Part, sample: Sample, decoded: Decoded) -> None:
        i, label = sample["at"], sample["label"]
        fixed = {**decoded.fixed, "label": np.int64(self.codes[label] if label is not None else -1)}
        if self.dataset.folds:
            fixed |= {"fold": np.int16(self.splits["fold"][i]), "inner": np.uint8(self.splits["inner"][i])}
            part.folds[(self.splits["fold"][i], bool(self.splits["inner"][i]))] += 1
        writer.add(fixed, {**decoded.ragged, "id": sample["id"], "group": sample["group"]})
        part.samples += 1
        part.groups.add(sample["group"])
        if label is not None:
            part.labels[label] += 1
        self.bytes_packed += sum(np.asarray(v).nbytes for v in fixed.values())
        self.bytes_packed += sum(len(v) if isinstance(v, str) else v.nbytes for v in decoded.ragged.values())
        features = self.dataset.features
        if "frames" in decoded.fixed and hasattr(features, "hop"):
            self.seconds_of_audio += float(decoded.fixed["frames"]) * features.hop / features.sample_rate

    def _check_room(self, rows: int) -> None:
        kept = sum(p.samples for p in self.parts.values())
        if self._checked or kept < ESTIMATE_AFTER:
            return
        self._checked = True
        total = sum(1 for s in self.splits["split"] if s)
        # A pack is joined from a file a field: the largest one needs its place twice for a moment.
        largest = max(Counter(s for s in self.splits["split"] if s).values())
        need, free = self.bytes_packed / kept * (total - kept + largest), free_bytes(self.output)
        if need > free:
            raise DataError(f"{self.output}: the packs need about {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: "
                            f"{(need - free) / 1e9:.1f} GB are missing; make room, use subset_size or smaller features")  # fmt: skip

    def _say(self, split: str, rows: int) -> None:
        if time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            done = sum(p.samples for p in self.parts.values())
            print(f"{split}: {done} packed, {len(self.quarantine)} left out, {self.bytes_read / 1e6:.0f} MB read", flush=True)

    def _check_complete(self) -> None:
        """Every split, and with folds every role of every fold, must have samples left."""
        for name, part in self.parts.items():
            if not part.samples:
                rows = [(i, r) for i, r in sorted(self.quarantine) if self.index["refused"][i] is None]
                most = Counter(_kind(r) for _, r in rows).most_common(1)
                example = next(((self.index["id"][i], r) for i, r in rows if _kind(r) == most[0][0]), ("", ""))
                raise DataError(f"every sample of {name.split('.')[0]} was refused, most of all: '{shorten(example[0])}': {example[1]}; "
                                "correct the dataset's settings or the files")  # fmt: skip
        for fold in range(1, self.dataset.folds + 1):
            counts = Counter()
            for (f, inner), n in next(iter(self.parts.values())).folds.items():
                counts["test" if f == fold else "validation" if inner else "train"] += n
            for role in ("train", "validation", "test"):
                if not counts[role]:
                    raise DataError(f"fold {fold} has no {role} samples left after {len(self.quarantine)} were refused; give fewer folds")

    def _refusals(self) -> list[tuple[str, str]]:
        return [(self.index["id"][i], reason) for i, reason in sorted(self.quarantine)]

    def _summary(self, work: Path, names: list[str], seconds: float) -> dict[str, Any]:
        packs = {}
        for name in sorted(names):
            part = self.parts[name]
            packs[name] = {"samples": part.samples, "groups": len(part.groups), "bytes": (work / name).stat().st_size}
            if part.labels and len(part.labels) <= 64:
                packs[name]["labels"] = dict(sorted(part.labels.items()))
        known = bool(self.index_meta.get("groups_known"))
        return {
            "suite": self.settings.get("suite"), "dataset": self.settings.get("dataset"), "format": self.dataset.format,
            "samples": sum(p.samples for p in self.parts.values()), "refused": len(self.quarantine) - sum(self.twins.values()),
            "reasons": dict(Counter(_kind(r) for _, r in self.quarantine).most_common(20)), "duplicates": self.twins,
            "packs": packs, "classes": len(self.classes), "groups_known": known,
            "notes": [] if known else ["groups unknown: samples of one person or piece may lie in several splits (leak)"],
            "hours": round(self.seconds_of_audio / 3600, 4) if self.seconds_of_audio else None,
            "files_read": self.files_read, "bytes_read": self.bytes_read, "workers_replaced": self.restarts, "seconds": round(seconds, 2),
        }  # fmt: skip


def _decode_here(reader):
    def decode(loaded: Iterator[tuple[Sample, Loaded]]) -> Iterator[tuple[Sample, Decoded]]:
        for sample, content in loaded:
            try:
                yield sample, Decoded(*reader.read(content.blobs, sample))
            except Refused as reason:
                yield sample, Decoded({}, {}, str(reason))

    return decode


def _decode_there(pool: DecodePool):
    def decode(loaded: Iterator[tuple[Sample, Loaded]]) -> Iterator[tuple[Sample, Decoded]]:
        sent: list[list[Sample]] = []
        for answers in pool.map(_chunks(loaded, sent)):
            yield from zip(sent.pop(0), answers)

    return decode


def _chunks(loaded: Iterator[tuple[Sample, Loaded]], sent: list[list[Sample]]) -> Iterator[list[Task]]:
    chunk: list[Task] = []
    size = 0
    for sample, content in loaded:
        chunk.append(Task(sample, content.blobs))
        size += sum(map(len, content.blobs))
        if len(chunk) >= CHUNK_FILES or size >= CHUNK_BYTES:
            sent.append([t.sample for t in chunk])
            yield chunk
            chunk, size = [], 0
    if chunk:
        sent.append([t.sample for t in chunk])
        yield chunk


def _writer(path: Path, meta: dict[str, Any]):
    if path.suffix == ".jsonl":
        from trainyard.data.chat import ChatWriter

        return ChatWriter(path, meta)
    from trainyard.data.pack import PackWriter

    return PackWriter(path, meta)


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _read_splits(path: str, ids: list[str]) -> dict[str, list]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if table["id"].to_pylist() != ids:
        raise DataError(f"{path}: does not belong to this index (other samples or another order); divide the index again with split_dataset.py")
    return {name: table[name].to_pylist() for name in ("split", "fold", "inner", "shard")}


def _write_quarantine(path: Path, rows: list[tuple[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "reason"))
        writer.writerows(rows)


def _move(source: Path, target: str) -> None:
    """Into place, also from another disk."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    part = f"{target}.{os.getpid()}.tmp"
    shutil.copyfile(source, part)
    os.replace(part, target)


def _clear(output: Path) -> None:
    """Remove what a killed copy left behind."""
    for old in output.glob(".copy-*"):
        pid = old.name.removeprefix(".copy-")
        with contextlib.suppress(PermissionError, ProcessLookupError, ValueError):
            try:
                os.kill(int(pid), 0)
                continue
            except ProcessLookupError:
                shutil.rmtree(old, ignore_errors=True)


def _kind(reason: str) -> str:
    """A reason without what differs from file to file."""
    return "same content as another" if reason.startswith("same content as") else reason.split(":")[0][:100]


def _shape_words(shape: tuple | None) -> str:
    if shape is None:
        return "missing"
    return "text" if shape == ("text",) else f"{np.dtype(shape[1])} of shape {tuple(shape[2])}"
