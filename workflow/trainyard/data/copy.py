"""The local copy: each file is opened once, hashed, decoded and packed, or refused with a reason.

Splits are packed in the order test, validation, train, so that of equal contents the one in the earlier split stays and no
content is in two. Within a pack, samples lie in the order of the index, whatever ran in parallel. Everything is written
into a folder of its own and moved into place at the end: a copy that is killed leaves nothing that looks finished.
"""

import contextlib
import errno
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.schema import Dataset
from trainyard.data.decoding import Decode, OneShape, decode_here, decode_there, reader_class
from trainyard.data.errors import DataError
from trainyard.data.files import replacing, write_json
from trainyard.data.index import find_table, read_index, typed_dataset
from trainyard.data.loading import FileLoader, Loaded, RowLoader, Sample, TableLoader
from trainyard.data.sources import MAX_BYTES, SourceFolder
from trainyard.data.storage import free_bytes
from trainyard.data.tally import Packed, Tally
from trainyard.data.walk import base_folder
from trainyard.data.workers import Decoded, DecodePool

ESTIMATE_AFTER = 64  # samples; then it is known how large a packed one is
SECONDS = 60.0  # a format without parse_seconds of its own
ROW_BYTES = 64 << 20
PRIORITY = ("all", "test", "validation", "train")

Loader = FileLoader | RowLoader | TableLoader


@dataclass(frozen=True)
class Limits:
    """How the copy may use the machine. None of it changes what is written."""

    workers: int = 1
    reads: int = 16
    max_bytes: int = MAX_BYTES
    memory_mb: int = 4096


class LocalCopy:
    """One run of the copy step. `reader` ("module:Class") stands in for the format's own in tests."""

    def __init__(self, root: Path, index: str, splits: str, settings: Mapping[str, Any], limits: Limits, reader: str | None = None):
        self.root, self.settings, self.limits = Path(root).expanduser(), settings, limits
        self.dataset: Dataset = typed_dataset(settings)
        self.index, self.index_meta = read_index(index)
        self.splits = _read_splits(splits, self.index["id"])
        name = self.dataset.format
        self.target = reader or f"trainyard.data.{name}:{name.capitalize()}Reader"
        known = self.index["refused"]
        self.classes = sorted({x for x, reason in zip(self.index["label"], known) if x is not None and reason is None})
        self.codes = {c: i for i, c in enumerate(self.classes)}
        self.tally = Tally([(i, reason) for i, reason in enumerate(known) if reason is not None])
        self.seen: dict[bytes, tuple[int, str]] = {}
        self.shape = OneShape()
        self._checked = False
        self._said = time.monotonic()

    def run(self, output: Path, quarantine: str, summary: str) -> dict[str, Any]:
        """Write packs, quarantine.csv and the summary, and return the summary. Raises DataError and leaves no output then."""
        started = time.monotonic()
        if not self.root.exists():
            raise DataError(f"{self.root}: no such file or folder; mount it or correct the root")
        output.mkdir(parents=True, exist_ok=True)
        _clear(output)
        self.output = output
        work = output / f".copy-{os.getpid()}"
        work.mkdir()
        try:
            self._pack_all(work)
            self.tally.check_complete(self.index["id"], self.index["refused"], self.dataset.folds)
            self.tally.write_quarantine(work / "quarantine.csv", self.index["id"])
            known = bool(self.index_meta.get("groups_known"))
            result = self.tally.summary(self.dataset, work, known, len(self.classes), time.monotonic() - started)
            write_json(work / "summary.json", {"suite": self.settings.get("suite"), "dataset": self.settings.get("dataset"), **result})
            for old in output.iterdir():
                if old.suffix in (".safetensors", ".jsonl") and old.name not in self.tally.packs:
                    old.unlink()
            for name in self.tally.packs:
                os.replace(work / name, output / name)
            _move(work / "quarantine.csv", quarantine)
            _move(work / "summary.json", summary)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            full = f"{output}: the disk is full after {self.tally.bytes_packed / 1e9:.2f} GB; make room, or use subset_size"
            raise DataError(full) from None
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return result

    def _pack_all(self, work: Path) -> None:
        with contextlib.ExitStack() as stack:
            loader, decode, meta = self._ways(stack)
            stack.callback(loader.close)
            features = self.dataset.features.model_dump(mode="json")
            meta = {**meta, "format": self.dataset.format, "classes": self.classes, "features": features}
            for split in PRIORITY:
                rows = [i for i, s in enumerate(self.splits["split"]) if s == split]
                if rows:
                    self._pack_split(work, split, rows, loader, decode, meta)

    def _ways(self, stack: contextlib.ExitStack) -> tuple[Loader, Decode, dict[str, Any]]:
        """How samples of this format are loaded and decoded, and what its reader adds to a pack's meta."""
        dataset, limits, base = self.dataset, self.limits, base_folder(self.root)
        context = self._context()
        reader = reader_class(self.target)(dataset.features, base, context)
        if dataset.format == "tabular":
            return TableLoader(), decode_here(reader), reader.meta()
        if dataset.format == "chat":
            return RowLoader(base, self.index_meta.get("sources", []), ROW_BYTES), decode_here(reader), reader.meta()
        start = {
            "reader": self.target, "format": dataset.format, "features": dataset.features.model_dump(mode="json"), "root": str(base),
            "context": context, "seconds": getattr(dataset.features, "parse_seconds", SECONDS), "memory_mb": limits.memory_mb,
        }  # fmt: skip
        pool = stack.enter_context(DecodePool(start, limits.workers))
        stack.callback(lambda: setattr(self.tally, "workers_replaced", pool.restarts))
        files = getattr(reader, "files", lambda sample: [sample["path"]])
        return FileLoader(SourceFolder(base, limits.max_bytes), files, limits.reads), decode_there(pool), pool.meta

    def _context(self) -> dict[str, Any]:
        dataset = self.dataset
        context: dict[str, Any] = {"fields": dataset.fields, "classes": self.classes, "annotations": dataset.annotations}
        if dataset.format == "tabular":
            from trainyard.data.tabular import table_context

            context |= table_context(find_table(self.root, dataset)[0], dataset.model_dump(mode="json"))
        prepare = getattr(reader_class(self.target), "prepare", None)
        if prepare is not None:
            good = (i for i, s in enumerate(self.splits["split"]) if s)
            context |= prepare((self._sample(i) for i in good), context)
        return context

    def _sample(self, i: int) -> Sample:
        row = {name: values[i] for name, values in self.index.items() if name != "refused"}
        return {**row, "extra": json.loads(row["extra"]) if row["extra"] is not None else None, "at": i}

    def _pack_split(self, work: Path, split: str, rows: list[int], loader: Loader, decode: Decode, meta: dict[str, Any]) -> None:
        shards = self.splits["shard"]
        ending = "jsonl" if self.dataset.format == "chat" else "safetensors"
        names = {s: f"shard-{s:02d}.{ending}" if s else f"{split}.{ending}" for s in sorted({shards[i] for i in rows})}
        with contextlib.ExitStack() as stack:
            writers = {s: stack.enter_context(_writer(work / name, meta)) for s, name in names.items()}
            self.tally.packs |= {name: Packed() for name in names.values()}
            for sample, decoded in decode(self._fresh(split, loader.load(self._sample(i) for i in rows))):
                if decoded.refused is None:
                    decoded = self.shape.check(decoded)
                if decoded.refused is not None:
                    self.tally.refuse(sample["at"], decoded.refused)
                    continue
                shard = shards[sample["at"]]
                self._add(writers[shard], self.tally.packs[names[shard]], sample, decoded)
                self._check_room()
                self._say(split)

    def _fresh(self, split: str, loaded: Iterator[tuple[Sample, Loaded]]) -> Iterator[tuple[Sample, Loaded]]:
        """Those that could be read and whose content was not seen before."""
        tally = self.tally
        for sample, content in loaded:
            tally.files_read += len(content.blobs)
            tally.bytes_read += sum(map(len, content.blobs))
            if content.refused is not None:
                tally.refuse(sample["at"], content.refused)
                continue
            twin = self.seen.get(content.digest)
            if twin is None:
                self.seen[content.digest] = (sample["at"], split)
                yield sample, content
                continue
            other = self.index["id"][twin[0]]
            if twin[1] != split:
                tally.twins_across += 1
                tally.refuse(sample["at"], f"same content as '{other}' in {twin[1]}; it would leak into {split}")
            elif self.dataset.format == "paired" and self.index["extra"][twin[0]] != self.index["extra"][sample["at"]]:
                yield sample, content  # one performance, annotated twice
            else:
                tally.twins_inside += 1
                tally.refuse(sample["at"], f"same content as '{other}'; one of them is enough")

    def _add(self, writer: Any, pack: Packed, sample: Sample, decoded: Decoded) -> None:
        i, label, tally = sample["at"], sample["label"], self.tally
        fixed = {**decoded.fixed, "label": np.int64(self.codes[label] if label is not None else -1)}
        if self.dataset.folds:
            fold, inner = self.splits["fold"][i], bool(self.splits["inner"][i])
            fixed |= {"fold": np.int16(fold), "inner": np.uint8(inner)}
            pack.folds[(fold, inner)] += 1
        writer.add(fixed, {**decoded.ragged, "id": sample["id"], "group": sample["group"]})
        pack.samples += 1
        pack.groups.add(sample["group"])
        if label is not None:
            pack.labels[label] += 1
        tally.bytes_packed += sum(np.asarray(v).nbytes for v in fixed.values())
        tally.bytes_packed += sum(len(v) if isinstance(v, str) else v.nbytes for v in decoded.ragged.values())
        features = self.dataset.features
        if "frames" in decoded.fixed and hasattr(features, "hop"):
            tally.audio_seconds += float(decoded.fixed["frames"]) * features.hop / features.sample_rate

    def _check_room(self) -> None:
        kept = self.tally.packed
        if self._checked or kept < ESTIMATE_AFTER:
            return
        self._checked = True
        sizes = Counter(s for s in self.splits["split"] if s)
        # A pack is joined from a file a field: the largest one needs its place twice for a moment.
        need = self.tally.bytes_packed / kept * (sizes.total() - kept + max(sizes.values()))
        free = free_bytes(self.output)
        if need > free:
            raise DataError(
                f"{self.output}: the packs need about {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: "
                f"{(need - free) / 1e9:.1f} GB are missing; make room, use subset_size or smaller features"
            )

    def _say(self, split: str) -> None:
        if time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            tally = self.tally
            print(f"{split}: {tally.packed} packed, {len(tally.quarantine)} left out, {tally.bytes_read / 1e6:.0f} MB read", flush=True)


def _writer(path: Path, meta: dict[str, Any]) -> Any:
    if path.suffix == ".jsonl":
        from trainyard.data.chat import ChatWriter

        return ChatWriter(path, meta)
    from trainyard.data.pack import PackWriter

    return PackWriter(path, meta)


def _read_splits(path: str, ids: list[str]) -> dict[str, list]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read()
    if table["id"].to_pylist() != ids:
        raise DataError(f"{path}: does not belong to this index (other samples, or another order); divide again with split_dataset.py")
    return {name: table[name].to_pylist() for name in ("split", "fold", "inner", "shard")}


def _move(source: Path, target: str) -> None:
    """Into place, also from another disk."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _clear(output: Path) -> None:
    """Remove what a killed copy left behind."""
    for old in output.glob(".copy-*"):
        try:
            os.kill(int(old.name.removeprefix(".copy-")), 0)
        except ProcessLookupError:
            shutil.rmtree(old, ignore_errors=True)
        except (PermissionError, ValueError):
            continue
