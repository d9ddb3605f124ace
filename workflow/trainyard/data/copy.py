"""The local copy: each file is opened once, hashed, decoded and packed, or refused with a reason.

Splits are packed in the order test, validation, train, so that of equal contents the one in the earlier split stays and no
content is in two. Within a pack, samples lie in the order of the index, whatever ran in parallel. Everything is written
into a folder of its own and moved into place at the end: a copy that is killed leaves nothing that looks finished. It goes on
where it was, to the same bytes, as the journal in that folder says; sources that have changed since are read again.
"""

import contextlib
import errno
import time
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.dataset import Dataset
from trainyard.data.ahead import in_batches
from trainyard.data.copy_folder import put_into_place, refuse_source_folder, work_folder
from trainyard.data.copy_part import CopyPart, pack_names
from trainyard.data.decoding import Decode, DecodedAhead, decode_here, decode_there, reader_class
from trainyard.data.errors import DataError
from trainyard.data.files import json_text
from trainyard.data.index import find_table, typed_dataset
from trainyard.data.index_file import open_index
from trainyard.data.journal import Commit, Journal, Kept, Outcome, identity_of
from trainyard.data.lines import ROW_BYTES
from trainyard.data.loading import FileLoader, Given, Loader, RowLoader, TableLoader, files_of_rows, samples_of, size_of
from trainyard.data.names import from_text
from trainyard.data.packer import Packer
from trainyard.data.sources import MAX_BYTES, MountGone, SourceFolder
from trainyard.data.split_file import read_splits
from trainyard.data.storage import size
from trainyard.data.tally import Packed, Tally
from trainyard.data.twins import Twins
from trainyard.data.walk import base_folder
from trainyard.data.workers import DecodePool

SECONDS = 60.0  # a format without parse_seconds of its own
COMMIT_SECONDS = 0.2  # of work that a kill may cost
PRIORITY = ("all", "test", "validation", "train")


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
        self.root, self.settings, self.limits, self.paths = Path(root).expanduser(), settings, limits, (index, splits)
        self.dataset: Dataset = typed_dataset(settings)
        self.index, self.index_meta = open_index(index)
        self.splits = read_splits(splits, self.index["id"])
        name = self.dataset.format
        self.target = reader or f"trainyard.data.{name}:{name.capitalize()}Reader"
        known = self.index["refused"]
        self.classes = sorted({x for x, reason in zip(self.index["label"], known) if x is not None and reason is None})
        self.tally = Tally([(i, reason) for i, reason in enumerate(known) if reason is not None])
        self.twins = Twins(self.index["id"], self.splits["split"], self.index["extra"] if name == "paired" else None)
        self.groups_known = bool(self.index_meta.get("groups_known"))
        self.packer = Packer(self.index, self.splits, self.dataset, self.classes, self.groups_known, self.tally)
        self._said = time.monotonic()

    def run(self, output: Path, quarantine: str, summary: str) -> dict[str, Any]:
        """Write packs, quarantine.csv and the summary, and return the summary. Raises DataError and leaves no output then."""
        started = time.monotonic()
        if not self.root.exists():
            raise MountGone(f"{self.root}: no such file or folder; mount it or correct the root")
        refuse_source_folder(self.root, output)
        self.output = output
        try:
            with work_folder(output) as work:
                self._pack_all(work)
                self.tally.check_complete(self.index["id"], self.index["refused"], self.dataset)
                self.tally.write_quarantine(work / "quarantine.csv", self.index["id"])
                result = self.tally.summary(self.dataset, work, self.groups_known, len(self.classes), time.monotonic() - started)
                names = {"suite": self.settings.get("suite"), "dataset": self.settings.get("dataset")}
                (work / "summary.json").write_text(json_text({**names, **result}), encoding="utf-8")
                put_into_place(work, output, self.tally.packs, {"quarantine.csv": quarantine, "summary.json": summary})
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            full = f"{output}: the disk is full after {size(self.tally.bytes_packed)}; make room, or use subset_size"
            raise DataError(full) from None
        return result

    def _pack_all(self, work: Path) -> None:
        with contextlib.ExitStack() as stack:
            journal = stack.enter_context(contextlib.closing(Journal(work / "journal.jsonl", self._identity())))
            loader, decode, meta, least = self._ways(stack)
            stack.callback(loader.close)
            journal.check(lambda all: loader.unchanged(list(samples_of(self.index, (o.at for o in all))), [_known(o) for o in all]))
            features = self.dataset.features.model_dump(mode="json")
            meta = {**meta, "format": self.dataset.format, "classes": self.classes, "features": features}
            journal.open()
            left = list(self._left(work, meta, journal))
            self.packer.check_room(self.output, least)
            # One stream through all splits: while one is brought to the disk, files of the next are on their way.
            loaded = loader.load(batch for _, rows, _ in left for batch in in_batches(samples_of(self.index, rows), size_of))
            for part, rows, writers in left:
                self._pack_split(part, _of(loaded, len(rows)), writers, journal, decode)

    def _left(self, work: Path, meta: dict[str, Any], journal: Journal) -> Iterator[tuple[CopyPart, array, dict[int, Any]]]:
        """Splits with the rows that are still to be packed and what writes them; those that an earlier attempt has packed are counted."""
        for split in PRIORITY:
            rows = array("q", np.flatnonzero(self.splits["split"].are(split)).tobytes())
            if not rows:
                continue
            names = pack_names(self.dataset.format, split, {self.splits["shard"][i] for i in rows})
            part = CopyPart(work, split, rows, names, meta)
            self.tally.packs |= {name: Packed() for name in part.names.values()}
            kept, writers = part.take_up(journal)
            self._take_up(part, kept)
            if writers is not None:
                yield part, rows[len(kept.outcomes) :] if len(kept.outcomes) else rows, writers

    def _identity(self) -> dict[str, Any]:
        base, limits = base_folder(self.root), self.limits
        sources = [base / from_text(path) for path in files_of_rows(self.index_meta.get("sources", []), self.index)]
        about = {"dataset": self.dataset.model_dump(mode="json"), "reader": self.target, "limits": [limits.max_bytes, limits.memory_mb]}
        return identity_of(*self.paths, self.dataset.format, about, sources)

    def _ways(self, stack: contextlib.ExitStack) -> tuple[Loader, Decode, dict[str, Any], int]:
        """How samples of this format are loaded and decoded, what its reader adds to a pack's meta, and the bytes of a sample as far as
        they are known beforehand."""
        dataset, limits, base = self.dataset, self.limits, base_folder(self.root)
        context = self._context()
        reader = reader_class(self.target)(dataset.features, base, context)
        if dataset.format == "tabular":
            return TableLoader(), decode_here(reader), reader.meta(), 0
        if dataset.format == "chat":
            rows = RowLoader(base, self.index_meta.get("sources", []), ROW_BYTES, limits.reads)
            return DecodedAhead(rows, reader) if limits.workers > 1 else rows, decode_here(reader), reader.meta(), 0
        start = {
            "reader": self.target, "format": dataset.format, "features": dataset.features.model_dump(mode="json"), "root": str(base),
            "context": context, "seconds": getattr(dataset.features, "parse_seconds", SECONDS), "memory_mb": limits.memory_mb,
        }  # fmt: skip
        pool = stack.enter_context(DecodePool(start, limits.workers))
        stack.callback(lambda: setattr(self.tally, "workers_replaced", pool.restarts))
        files = getattr(reader, "files", lambda sample: [sample["path"]])
        least = getattr(reader, "sample_bytes", lambda: 0)()
        return FileLoader(SourceFolder(base, limits.max_bytes), files, limits.reads), decode_there(pool), pool.meta, least

    def _context(self) -> dict[str, Any]:
        dataset = self.dataset
        context: dict[str, Any] = {"fields": dataset.fields, "classes": self.classes, "annotations": dataset.annotations}
        if dataset.format == "tabular":
            from trainyard.data.tabular import table_context

            context |= table_context(find_table(self.root, dataset)[0], dataset.model_dump(mode="json"))
        prepare = getattr(reader_class(self.target), "prepare", None)
        if prepare is not None:
            context |= prepare(samples_of(self.index, (i for i, s in enumerate(self.splits["split"]) if s)), context)
        return context

    def _pack_split(self, part: CopyPart, loaded: Iterator[list[Given]], writers: dict[int, Any], journal: Journal, decode: Decode) -> None:
        """Pack what is loaded of a split, behind what an earlier attempt has packed."""
        done: list[Outcome] = []
        committed = time.monotonic()

        def commit(finished: bool = False) -> None:
            marks = {} if finished else part.marks(writers)
            journal.add(Commit(part.split, done, self.tally.totals(), self.packer.shape.known, marks, finished))
            done.clear()

        with contextlib.ExitStack() as stack:
            for writer in writers.values():
                stack.enter_context(writer)
            keep_all = getattr(self.dataset.features, "keep_equal_rows", False)
            for batch in decode(loaded if keep_all else self.twins.look(part.split, loaded)):
                self.tally.read(content for _, content, _ in batch)
                outcomes = self.packer.write(writers, batch)
                self.packer.count(part, outcomes)
                done += outcomes
                self.packer.check_room(self.output)
                if time.monotonic() > committed + COMMIT_SECONDS:
                    commit()
                    committed = time.monotonic()
                    self._say(part.split)
            for writer in writers.values():
                writer.finish()
            commit(finished=True)

    def _take_up(self, part: CopyPart, kept: Kept) -> None:
        """Count what an earlier attempt has done, as if it had been done now."""
        if kept.last is None:
            return
        for outcomes in kept.outcomes:
            for outcome in outcomes:
                if outcome.kind == "new":
                    self.twins.remember(bytes.fromhex(outcome.digest), outcome.at)
            self.packer.count(part, outcomes)
        self.tally.take_up(kept.last.totals)
        self.tally.resumed += len(kept.outcomes)
        self.packer.shape.known = kept.last.shape
        print(f"{part.split}: going on behind {len(kept.outcomes)} samples that are packed or refused already", flush=True)

    def _say(self, split: str) -> None:
        if time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            tally = self.tally
            print(f"{split}: {tally.packed} packed, {len(tally.quarantine)} left out, {tally.bytes_read / 1e6:.0f} MB read", flush=True)


def _of(loaded: Iterator[list[Given]], count: int) -> Iterator[list[Given]]:
    """The batches of the next `count` samples, none of which is of others too."""
    while count:
        batch = next(loaded)
        count -= len(batch)
        yield batch


def _known(outcome: Outcome) -> tuple[str | None, Any]:
    return (outcome.refused if outcome.kind == "unread" else None), outcome.stamps
