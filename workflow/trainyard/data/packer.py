"""What a local copy does with decoded samples: each is packed or refused, and counted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.dataset import Dataset
from trainyard.data.copy_folder import check_room
from trainyard.data.copy_part import CopyPart
from trainyard.data.decoding import OneShape
from trainyard.data.journal import Outcome
from trainyard.data.loading import Loaded, Sample
from trainyard.data.tally import Tally
from trainyard.data.workers import Decoded

ESTIMATE_AFTER = 64  # samples; then it is known how large a packed one is

Packable = tuple[dict[str, Any], dict[str, Any]]  # fixed and ragged fields of a sample


class Packer:
    """Writes samples of an index into the packs of their splits and shards. `tally` counts."""

    def __init__(
        self,
        index: Mapping[str, Any],
        splits: Mapping[str, Any],
        dataset: Dataset,
        classes: Sequence[str],
        groups_known: bool,
        tally: Tally,
    ):
        self.index, self.splits, self.dataset, self.groups_known, self.tally = index, splits, dataset, groups_known, tally
        self.shape = OneShape()
        self._codes = {c: i for i, c in enumerate(classes)}
        self._fixed = lru_cache(4096)(self._own_fields)
        self._checked = False

    def count(self, part: CopyPart, outcomes: Iterable[Outcome]) -> None:
        """Count what became of some samples of a split."""
        packed = defaultdict[str, list[int]](list)
        for outcome in outcomes:
            if outcome.refused is not None:
                self.tally.refuse(outcome.at, outcome.refused)
            else:
                packed[part.names[self.splits["shard"][outcome.at]]].append(outcome.at)
        for name, rows in packed.items():
            folds = [self._fold(i) for i in rows] if self.dataset.folds else []
            groups = self.index["group"].take(rows) if self.groups_known else ()  # else each sample is one by itself
            self.tally.packs[name].add(self.index["label"].take(rows), groups, folds)

    def _fold(self, i: int) -> tuple[int, bool]:
        return (self.splits["fold"][i], bool(self.splits["inner"][i])) if self.dataset.folds else (0, False)

    def _own_fields(self, label: str | None, fold: int, inner: bool) -> dict[str, np.generic]:
        """What the copy itself knows of a sample, as a pack holds it."""
        code = np.int64(self._codes[label] if label is not None else -1)
        return {"label": code, "fold": np.int16(fold), "inner": np.uint8(inner)} if fold else {"label": code}

    def write(self, writers: dict[int, Any], batch: list[tuple[Sample, Loaded, Decoded]]) -> list[Outcome]:
        """Pack what is good of a batch. Returns what became of each sample."""
        outcomes: list[Outcome] = []
        good, shards = defaultdict[int, list[Packable]](list), self.splits["shard"]
        for sample, content, decoded in batch:
            at, refused = sample["at"], decoded.refused
            if refused is None:
                refused = self.shape.refusal(decoded)
            if refused is None:
                fixed = decoded.fixed | self._fixed(sample["label"], *self._fold(at))
                good[shards[at]].append((fixed, {**decoded.ragged, "id": sample["id"], "group": sample["group"]}))
            outcomes.append(Outcome(at, content.kind, refused, content.digest.hex() if content.kind == "new" else "", content.stamps))
        for shard, samples in good.items():
            self.tally.bytes_packed += writers[shard].add_all(samples)
            self._hear(samples)
        return outcomes

    def _hear(self, samples: list[Packable]) -> None:
        """Count the seconds of sound."""
        features = self.dataset.features
        if hasattr(features, "hop") and "frames" in samples[0][0]:
            for fixed, _ in samples:
                self.tally.audio_seconds += float(fixed["frames"]) * features.hop / features.sample_rate

    def check_room(self, output: Path, least: int = 0) -> None:
        """Raise DataError where the disk would not hold the packs: by `least`, the bytes of a sample that are known before one is read,
        and again when some are packed."""
        known = self.tally.packed >= ESTIMATE_AFTER
        if self._checked or not (known or least):
            return
        self._checked = known
        each = self.tally.bytes_packed / self.tally.packed if known else least
        check_room(output, each, self.tally.packed, Counter(s for s in self.splits["split"] if s))
