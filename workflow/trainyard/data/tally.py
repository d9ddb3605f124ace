"""What a local copy counts while it works, and what it says at the end."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from trainyard.config.dataset import Dataset
from trainyard.data.digests import Digests
from trainyard.data.errors import DataError
from trainyard.data.loading import Loaded
from trainyard.data.names import shorten
from trainyard.data.refused import write_quarantine

MAX_LABELS = 64
TWIN = "same content as another"
MANY_EQUAL = 0.02  # share of a table's rows from which on equal ones may be no mistake


@dataclass
class Packed:
    """What went into one pack; `folds` counts samples by (fold, inner)."""

    samples: int = 0
    labels: Counter = field(default_factory=Counter)
    groups: Digests = field(default_factory=Digests)
    folds: Counter = field(default_factory=Counter)

    def add(self, labels: Sequence[str | None], groups: Sequence[str], folds: Iterable[tuple[int, bool]]) -> None:
        """Count some samples; `groups` where they are known, `folds` with whether each is an inner one, where there are any."""
        self.samples += len(labels)
        for group in set(groups):
            self.groups.add(xxhash.xxh3_128_digest(group.encode()))
        self.labels.update(label for label in labels if label is not None)
        self.folds.update(folds)


TOTALS = ("files_read", "bytes_read", "bytes_packed", "audio_seconds", "twins_inside", "twins_across")


@dataclass
class Tally:
    """Counts of one copy. `quarantine` holds (row of the index, reason); resumed: samples that an earlier attempt had dealt with."""

    quarantine: list[tuple[int, str]] = field(default_factory=list)
    packs: dict[str, Packed] = field(default_factory=dict)
    files_read: int = 0
    bytes_read: int = 0
    bytes_packed: int = 0
    audio_seconds: float = 0.0
    twins_inside: int = 0
    twins_across: int = 0
    workers_replaced: int = 0
    resumed: int = 0

    @property
    def packed(self) -> int:
        return sum(p.samples for p in self.packs.values())

    def totals(self) -> dict[str, Any]:
        """The sums so far, as `take_up` wants them."""
        return {name: getattr(self, name) for name in TOTALS}

    def take_up(self, totals: dict[str, Any]) -> None:
        """Count on from the sums of an earlier attempt."""
        for name in TOTALS:
            setattr(self, name, totals[name])

    def read(self, contents: Iterable[Loaded]) -> None:
        """Count what was read for some samples."""
        for content in contents:
            self.files_read += content.files
            self.bytes_read += content.size
            self.twins_inside += content.kind == "inside"
            self.twins_across += content.kind == "across"

    def refuse(self, row: int, reason: str) -> None:
        self.quarantine.append((row, reason))

    def check_complete(self, ids: Sequence[str], known: Sequence[str | None], dataset: Dataset) -> None:
        """Raise DataError unless every pack, and with folds every role of every fold, has samples left.

        `known` are the reasons that the index already had.
        """
        for name, pack in self.packs.items():
            if pack.samples:
                continue
            rows = [(i, r) for i, r in sorted(self.quarantine) if known[i] is None]
            common = Counter(kind_of(r) for _, r in rows).most_common(1)[0][0]
            at, reason = next((i, r) for i, r in rows if kind_of(r) == common)
            advice = "correct the dataset's settings or the files"
            if common == TWIN and hasattr(dataset.features, "keep_equal_rows"):
                advice = "if equal rows are of different people, set features.keep_equal_rows: true"
            raise DataError(f"every sample of {name.split('.')[0]} was refused, most of all: '{shorten(ids[at])}': {reason}; {advice}")
        for fold in range(1, dataset.folds + 1):
            counts: Counter[str] = Counter()
            for (its_fold, inner), n in next(iter(self.packs.values())).folds.items():
                counts["test" if its_fold == fold else "validation" if inner else "train"] += n
            for role in ("train", "validation", "test"):
                if not counts[role]:
                    raise DataError(f"fold {fold} has no {role} samples left after {len(self.quarantine)} were refused; give fewer folds")

    def write_quarantine(self, path: Path, ids: Sequence[str]) -> None:
        """The refused samples, in the order of the index."""
        write_quarantine(path, ((ids[i], reason) for i, reason in sorted(self.quarantine)))

    def summary(self, dataset: Dataset, folder: Path, groups_known: bool, classes: int, seconds: float) -> dict[str, Any]:
        """Counts, hours, balance, duplicates, refusals, for people and tools."""
        packs: dict[str, dict[str, Any]] = {}
        for name, pack in sorted(self.packs.items()):
            groups = len(pack.groups) if groups_known else pack.samples
            packs[name] = {"samples": pack.samples, "groups": groups, "bytes": (folder / name).stat().st_size}
            if 0 < len(pack.labels) <= MAX_LABELS:
                packs[name] |= {"labels": dict(sorted(pack.labels.items()))}
                packs[name] |= {"balance": round(min(pack.labels.values()) / max(pack.labels.values()), 4)}
        return {
            "format": dataset.format,
            "samples": self.packed,
            "refused": len(self.quarantine) - self.twins_inside - self.twins_across,
            "reasons": dict(Counter(kind_of(r) for _, r in self.quarantine).most_common(20)),
            "duplicates": {"same_split": self.twins_inside, "across_splits": self.twins_across},
            "packs": packs,
            "classes": classes,
            "groups_known": groups_known,
            "notes": self._notes(dataset, groups_known),
            "hours": round(self.audio_seconds / 3600, 4) if self.audio_seconds else None,
            "files_read": self.files_read,
            "bytes_read": self.bytes_read,
            "workers_replaced": self.workers_replaced,
            "resumed_after": self.resumed,
            "seconds": round(seconds, 2),
        }

    def _notes(self, dataset: Dataset, groups_known: bool) -> list[str]:
        notes = [] if groups_known else ["groups unknown: samples of one person or piece may lie in several splits (leak)"]
        equal = self.twins_inside + self.twins_across
        if hasattr(dataset.features, "keep_equal_rows") and equal > MANY_EQUAL * (self.packed + equal):
            notes.append(
                f"{equal:,} of {self.packed + equal:,} rows equal others and were left out; if they are of different people, "
                "set features.keep_equal_rows: true"
            )
        return notes


def kind_of(reason: str) -> str:
    """A reason without what differs from file to file."""
    return TWIN if reason.startswith("same content as") else reason.split(":")[0][:100]
