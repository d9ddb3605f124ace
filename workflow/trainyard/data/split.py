"""Dividing samples: train, validation and test, folds, shards. Every choice comes from hashes and counts, so it is the
same on any machine, and a group is never divided (but by shards, whose sizes are exact)."""

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainyard.config.schema import Dataset
from trainyard.data.arrow import ROW_GROUP, make_table, number_column, text_column
from trainyard.data.columns import Coded
from trainyard.data.errors import DataError
from trainyard.data.files import replacing, unit_hash
from trainyard.data.shards import shard_edges

MAX_CLASSES = 64  # more different labels than that are numbers or names, not classes to balance
NONE = ""  # the split of a refused sample


@dataclass
class Splits:
    """A row a sample, in index order: split (train, validation, test; with folds all; refused: empty), fold, inner, shard."""

    split: list[str]
    fold: np.ndarray
    inner: np.ndarray
    shard: np.ndarray
    notes: list[str] = field(default_factory=list)


def split_samples(index: dict[str, list], dataset: Dataset) -> Splits:
    """Divide the samples of an index that are not refused. Raises DataError where there are too few groups."""
    good = [i for i, reason in enumerate(index["refused"]) if reason is None]
    groups = [index["group"][i] for i in good]
    labels = [index["label"][i] for i in good]
    n = len(index["id"])
    out = Splits([NONE] * n, np.zeros(n, np.int16), np.zeros(n, bool), np.zeros(n, np.int32))
    rows = np.array(good, np.int64)
    if dataset.folds:
        fold, inner = assign_folds(groups, labels, dataset, out.notes)
        out.fold[rows], out.inner[rows] = fold, inner
        for i in good:
            out.split[i] = "all"
    else:
        for i, name in zip(good, assign_splits(groups, dataset, out.notes)):
            out.split[i] = name
    if dataset.shards:
        ids = index["id"]
        train = [i for i in good if out.split[i] in ("train", "all")]
        known = dataset.group is not None
        out.shard[np.array(train, np.int64)] = assign_shards(
            [ids[i] for i in train], [index["group"][i] for i in train] if known else None, dataset.shards, dataset.seed, out.notes
        )
    return out


def assign_splits(groups: Sequence[str], dataset: Dataset, notes: list[str]) -> list[str]:
    """The split of each sample, by the hash of its group: approximate shares, but a group keeps its split when data are
    added. When a split would be empty, the groups whose hashes lie nearest move there."""
    names, member = _number(groups)
    hashes = np.fromiter((unit_hash(g, f"split:{dataset.seed}") for g in names), float, len(names))
    n = len(names)
    if n < 3:
        raise DataError(f"{n} group(s) among {len(groups)} samples cannot be divided into train, validation and test: three are needed, "
                        "for a group is never divided; add data or correct the group rule")  # fmt: skip
    below = [int((hashes < edge).sum()) for edge in (dataset.test, dataset.test + dataset.validation)]
    first = min(max(below[0], 1), n - 2)
    second = min(max(below[1], first + 1), n - 1)
    if [first, second] != below:
        notes.append("a split would have been empty: the groups nearest by hash moved there; shares are only as fine as groups allow")
    place = np.empty(n, np.int8)
    place[_ranked(hashes, names)] = np.repeat(np.arange(3, dtype=np.int8), [first, second - first, n - second])
    return [("test", "validation", "train")[k] for k in place[member].tolist()]


def _number(names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different names in order of their first coming, and the number of each name's among them, (n,) int64."""
    numbers: dict[str, int] = {}
    member = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int64, len(names))
    return list(numbers), member


def _ranked(hashes: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The numbers of the names in order of hash, equal hashes in order of name: the order of the names does not matter."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(np.diff(hashes[order]) == 0)
    if len(same):
        order = np.array(sorted(range(len(names)), key=lambda i: (hashes[i], names[i])), np.int64)
    return order


def assign_folds(groups: Sequence[str], labels: Sequence[str | None], dataset: Dataset, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """fold (n,) from 1, and inner (n,): the groups that validate whenever their fold is not the test.

    Greedy, largest group first (ties by hash): each goes where sizes, and with `stratify` the counts of every label, come
    out most even. With folds f left out, some inner and some other groups always remain.
    """
    k, seed = dataset.folds, dataset.seed
    order = sorted(set(groups))
    number = {g: i for i, g in enumerate(order)}
    member = np.array([number[g] for g in groups], np.int64)
    classes = sorted({x for x in labels if x is not None})
    stratify = dataset.stratify and 1 < len(classes) <= min(MAX_CLASSES, max(2, len(labels) // k))
    if dataset.stratify and len(classes) > 1 and not stratify:
        notes.append(f"folds are not stratified: {len(classes)} different labels among {len(labels)} samples")
    if len(order) < max(4, k):
        raise DataError(f"{len(order)} group(s) cannot make {k} folds, each with training and validation data beside it: "
                        f"at least {max(4, k)} are needed; give fewer folds, more data or another group rule")  # fmt: skip
    codes = {c: i for i, c in enumerate(classes)} if stratify else {}
    counts = np.zeros((len(order), len(codes) + 1))
    np.add.at(counts, (member, np.array([codes.get(x, len(codes)) if x is not None else len(codes) for x in labels])), 1)
    sizes = counts.sum(1)
    # A class weighs by its share of itself, so a rare one is spread as carefully as a common one.
    weights = np.concatenate([counts / np.maximum(counts.sum(0), 1), (sizes / sizes.sum())[:, None]], 1)
    ranks = {g: unit_hash(g, f"fold:{seed}") for g in order}
    held = np.zeros((k, weights.shape[1]))
    filled = np.zeros(k, np.int64)
    fold_of = np.zeros(len(order), np.int64)
    queue = sorted(order, key=lambda g: (-sizes[number[g]], ranks[g], g))
    for left, g in zip(range(len(queue), 0, -1), queue):
        w = weights[number[g]]
        cost = ((held + w) ** 2 - held**2).sum(1)
        # Every fold must get a group; of two folds each must get two, one to train on and one to validate.
        missing = np.maximum((2 if k == 2 else 1) - filled, 0)
        if missing.sum() >= left:
            cost[missing == 0] = np.inf
        best = int(np.flatnonzero(cost <= cost.min() * (1 + 1e-9))[0])
        held[best] += w
        filled[best] += 1
        fold_of[number[g]] = best
    inner = _inner(order, sizes, fold_of, k, dataset)
    return (fold_of[member] + 1).astype(np.int16), inner[member]


def _inner(order: list[str], sizes: np.ndarray, fold_of: np.ndarray, k: int, dataset: Dataset) -> np.ndarray:
    """Groups for validation: by hash, from the folds in turn, until their share is reached and every fold has some
    outside it; never so many that no training group would remain."""
    queues = [
        sorted(np.flatnonzero(fold_of == f).tolist(), key=lambda i: (unit_hash(order[i], f"inner:{dataset.seed}"), order[i]))
        for f in range(k)
    ]
    inner = np.zeros(len(order), bool)
    aim = dataset.validation * sizes.sum()
    rest = np.bincount(fold_of, minlength=k)  # groups of each fold that are not chosen
    chosen, held = np.zeros(k, np.int64), 0.0  # chosen groups of each fold; samples in them

    def enough() -> bool:
        count = int(chosen.sum())
        return bool((count - chosen > 0).all()) and held + held / count / 2 >= aim

    def room(fold: int) -> bool:
        left = rest - (np.arange(k) == fold)
        return bool((left.sum() - left > 0).all())

    candidates = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    for i in candidates:
        if chosen.any() and enough():
            break
        fold = fold_of[i]
        if room(fold):
            inner[i] = True
            rest[fold] -= 1
            chosen[fold] += 1
            held += sizes[i]
    return inner


def assign_shards(ids: Sequence[str], groups: Sequence[str] | None, shards: int, seed: int, notes: list[str]) -> np.ndarray:
    """The shard of each sample, (n,) from 1: sizes differ by at most one, ranked by hash. Known groups stay together but
    where an exact border falls inside one."""
    n = len(ids)
    if n < shards:
        raise DataError(f"{n} training samples cannot fill {shards} shards; give fewer shards or more data")
    salt = f"shard:{seed}"
    # Ids first, then groups by a stable sort: groups lie together in order of their hash, ids within them in order of theirs.
    order = _ranked(np.fromiter((unit_hash(i, salt) for i in ids), float, n), ids)
    if groups is not None:
        names, member = _number(groups)
        rank = np.empty(len(names), np.int64)
        rank[_ranked(np.fromiter((unit_hash(g, salt) for g in names), float, len(names)), names)] = np.arange(len(names))
        order = order[np.argsort(rank[member[order]], kind="stable")]
    edges = shard_edges(n, shards)
    out = np.zeros(n, np.int32)
    for shard in range(shards):
        out[order[edges[shard] : edges[shard + 1]]] = shard + 1
    if groups is not None:
        cut = sum(1 for e in edges[1:-1] if groups[order[e - 1]] == groups[order[e]])
        if cut:
            notes.append(f"{cut} group(s) lie in two neighbouring shards: the sizes are exact")
    return out


def write_splits(index: dict[str, list], splits: Splits, path: str | os.PathLike) -> None:
    """splits.parquet, atomically."""
    import pyarrow.parquet as pq

    columns = {
        "id": text_column(index["id"]), "split": text_column(splits.split), "fold": number_column(splits.fold, np.int16),
        "inner": number_column(splits.inner, np.bool_), "shard": number_column(splits.shard, np.int32),
    }  # fmt: skip
    with replacing(path) as temporary:
        pq.write_table(make_table(columns), temporary, compression="zstd", row_group_size=ROW_GROUP)


def read_splits(path: str | os.PathLike, ids: Sequence[str]) -> dict[str, Sequence]:
    """split, fold, inner and shard of every sample of an index, by its number. Raises DataError when it belongs to another index."""
    import pyarrow.parquet as pq

    out: dict[str, Any] = {"split": Coded(), "fold": array("i"), "inner": array("b"), "shard": array("i")}
    at = 0
    for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP):
        if batch["id"].to_pylist() != ids[at : at + len(batch)]:
            break
        at += len(batch)
        for name, values in out.items():
            values.extend(batch[name].to_pylist())
    if at != len(ids):
        raise DataError(f"{path}: does not belong to this index (other samples, or another order); divide again with split_dataset.py")
    return out


def summarise(index: dict[str, list], meta: dict[str, Any], splits: Splits, dataset: Dataset) -> dict[str, Any]:
    """splits.json: counts, balance, seed, checksum, remarks."""
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(splits.split):
        rows.setdefault(name, []).append(i)
    refused = len(rows.pop(NONE, []))
    total = sum(map(len, rows.values()))
    known = bool(meta.get("groups_known"))
    names = [s for s in ("all", "train", "validation", "test") if s in rows]
    out: dict[str, Any] = {
        "format": dataset.format, "samples": total, "refused": refused,
        "groups": len({index["group"][i] for r in rows.values() for i in r}),
        "groups_known": known, "seed": dataset.seed,
        "splits": {s: _describe(index, rows[s], total) for s in names},
    }  # fmt: skip
    if dataset.folds:
        out["folds"] = [
            {"fold": f, **_describe(index, np.flatnonzero(splits.fold == f).tolist(), total)} for f in range(1, dataset.folds + 1)
        ]
        out["inner"] = _describe(index, np.flatnonzero(splits.inner).tolist(), total)
    if dataset.shards:
        out["shards"] = [int((splits.shard == s).sum()) for s in range(1, dataset.shards + 1)]
    notes = [*meta.get("notes", []), *splits.notes]
    if not known:
        notes.append("groups unknown: samples of one person or piece may lie in several splits (leak)")
    if refused:
        notes.append(f"{refused} samples are refused and lie in no split; quarantine.csv says why")
    notes += _missing_classes(index, rows)
    out["notes"] = notes
    out["sha256"] = checksum(index, splits)
    return out


def checksum(index: dict[str, list], splits: Splits) -> str:
    """SHA-256 over id, split, fold, inner and shard of every row: equal wherever the division is, whatever wrote the file."""
    digest = hashlib.sha256()
    for row in zip(index["id"], splits.split, splits.fold.tolist(), splits.inner.tolist(), splits.shard.tolist()):
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _describe(index: dict[str, list], rows: list[int], total: int) -> dict[str, Any]:
    labels = Counter(index["label"][i] for i in rows if index["label"][i] is not None)
    out: dict[str, Any] = {
        "samples": len(rows),
        "groups": len({index["group"][i] for i in rows}),
        "share": round(len(rows) / max(total, 1), 4),
    }
    if 0 < len(labels) <= MAX_CLASSES:
        out["labels"] = dict(sorted(labels.items()))
        out["balance"] = round(min(labels.values()) / max(labels.values()), 4)
    elif labels:
        out["different_labels"] = len(labels)
    return out


def _missing_classes(index: dict[str, list], rows: dict[str, list[int]]) -> list[str]:
    per = {s: {index["label"][i] for i in r} - {None} for s, r in rows.items()}
    classes = set().union(*per.values()) if per else set()
    if not 1 < len(classes) <= MAX_CLASSES:
        return []
    return [f"no sample of {', '.join(sorted(classes - per[s]))} in {s}" for s in sorted(per) if classes - per[s]]
