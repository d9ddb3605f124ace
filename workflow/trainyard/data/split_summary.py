"""What splits.json says of a division: counts, balance, seed, checksum, remarks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from trainyard.config.dataset import Dataset
from trainyard.data.digests import Digests
from trainyard.data.folds import MAX_CLASSES
from trainyard.data.split import NONE, Splits
from trainyard.data.split_file import checksum, in_parts

FAR = 0.1  # a share of the samples that is so much more or less than was asked for is said


def summarise(index: Mapping[str, Sequence], meta: dict[str, Any], splits: Splits, dataset: Dataset) -> dict[str, Any]:
    """splits.json, in one pass over the samples."""
    parts, folds = dict[str, _Part](), {f: _Part() for f in range(1, dataset.folds + 1)}
    whole, inner, groups = _Part(), _Part(), Digests()
    refused = 0
    rows = zip(splits.split, index["label"], index["group"], in_parts(splits.fold), in_parts(splits.inner))
    for name, label, group, fold, is_inner in rows:
        if name == NONE:
            refused += 1
            continue
        number = groups.add(xxhash.xxh3_128_digest(group.encode()))
        whole.add(label, number)
        if name not in parts:
            parts[name] = _Part()
        parts[name].add(label, number)
        if fold:
            folds[fold].add(label, number)
        if is_inner:
            inner.add(label, number)
    total = whole.samples
    known = bool(meta.get("groups_known"))
    names = [s for s in ("all", "train", "validation", "test") if s in parts]
    out: dict[str, Any] = {
        "format": dataset.format, "samples": total, "refused": refused, "groups": whole.groups, "groups_known": known,
        "seed": dataset.seed, "splits": {s: parts[s].describe(total) for s in names},
    }  # fmt: skip
    if dataset.folds:
        out["folds"] = [{"fold": f, **part.describe(total)} for f, part in folds.items()]
        out["inner"] = inner.describe(total)
    if dataset.shards:
        out["shards"] = [int((splits.shard == s).sum()) for s in range(1, dataset.shards + 1)]
    notes = [*meta.get("notes", []), *splits.notes]
    if not known:
        notes.append("groups unknown: samples of one person or piece may lie in several splits (leak)")
    if not dataset.folds:
        notes += _far_shares(parts, total, whole.groups, dataset)
    if refused:
        notes.append(f"{refused} samples are refused and lie in no split; quarantine.csv says why")
    out["notes"] = notes + _missing_classes(parts)
    out["sha256"] = checksum(index["id"], splits)
    return out


class _Part:
    """Samples of one split, fold or of all of them, counted."""

    def __init__(self) -> None:
        self.samples, self.groups, self.labels = 0, 0, Counter[str]()
        self._seen = bytearray()

    def add(self, label: str | None, group: int) -> None:
        """`group`: its number."""
        self.samples += 1
        if group >= len(self._seen):
            self._seen.extend(bytes(group + 1))
        if not self._seen[group]:
            self._seen[group] = 1
            self.groups += 1
        if label is not None:
            self.labels[label] += 1

    def describe(self, total: int) -> dict[str, Any]:
        out: dict[str, Any] = {"samples": self.samples, "groups": self.groups, "share": round(self.samples / max(total, 1), 4)}
        if 0 < len(self.labels) <= MAX_CLASSES:
            out["labels"] = dict(sorted(self.labels.items()))
            out["balance"] = round(min(self.labels.values()) / max(self.labels.values()), 4)
        elif self.labels:
            out["different_labels"] = len(self.labels)
        return out


def _far_shares(parts: dict[str, _Part], total: int, groups: int, dataset: Dataset) -> list[str]:
    asked = {"train": 1 - dataset.validation - dataset.test, "validation": dataset.validation, "test": dataset.test}
    reached = {name: parts[name].samples / total for name in asked if name in parts}
    if all(abs(share - asked[name]) <= FAR for name, share in reached.items()):
        return []
    words = ", ".join(f"{name} {share:.0%} (asked for: {asked[name]:.0%})" for name, share in reached.items())
    return [f"{words}: a group is never divided, and of {groups} groups some are large or the hashes lie so; try another seed, or folds"]


def _missing_classes(parts: dict[str, _Part]) -> list[str]:
    classes = {label for part in parts.values() for label in part.labels}
    if not 1 < len(classes) <= MAX_CLASSES:
        return []
    lacking = {s: sorted(classes - part.labels.keys()) for s, part in sorted(parts.items())}
    return [f"no sample of {', '.join(labels)} in {s}" for s, labels in lacking.items() if labels]
