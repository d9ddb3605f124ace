"""Dividing samples: train, validation and test, folds, shards. Every choice comes from hashes and counts, so it is the
same on any machine, and a group is never divided (but by shards, whose sizes are exact). Memory: some 50 bytes a sample."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xxhash

from trainyard.config.dataset import Dataset
from trainyard.data.columns import Coded
from trainyard.data.digests import Digests
from trainyard.data.errors import DataError
from trainyard.data.files import unit_hash
from trainyard.data.folds import assign_folds
from trainyard.data.shards import shard_edges
from trainyard.data.texts import Texts

NONE = ""  # the split of a refused sample
NAMES = ("test", "validation", "train")


@dataclass
class Splits:
    """A row a sample, in index order: split (train, validation, test; with folds all; refused: empty), fold, inner, shard."""

    split: Coded
    fold: np.ndarray
    inner: np.ndarray
    shard: np.ndarray
    notes: list[str] = field(default_factory=list)


def split_samples(index: Mapping[str, Sequence], dataset: Dataset) -> Splits:
    """Divide the samples of an index that are not refused. Raises DataError where there are too few groups."""
    n = len(index["id"])
    good = np.fromiter((reason is None for reason in index["refused"]), bool, n)
    rows, chosen = np.flatnonzero(good), good.tobytes()
    if n and not len(rows):
        reason, times = Counter(index["refused"]).most_common(1)[0]
        raise DataError(f"nothing is left to divide: all {n:,} samples are refused; {times:,} of them: {reason}")
    names, member = number(group for group, kept in zip(index["group"], chosen) if kept)
    out = Splits(Coded(NONE, n), np.zeros(n, np.int16), np.zeros(n, bool), np.zeros(n, np.int32))
    if dataset.folds:
        labels = [label for label, kept in zip(index["label"], chosen) if kept]
        out.fold[rows], out.inner[rows] = assign_folds([names[i] or "" for i in member.tolist()], labels, dataset, out.notes)
        out.split.put(rows, ["all"], np.zeros(len(rows), np.int64))
        train = np.ones(len(rows), bool)
    else:
        place = assign_splits(names, member, dataset, out.notes)
        out.split.put(rows, NAMES, place)
        train = place == NAMES.index("train")
    if dataset.shards:
        out.shard[rows[train]] = assign_shards(
            index["id"], rows[train], (names, member[train]) if dataset.group is not None else None, dataset.shards, dataset.seed, out.notes
        )
    return out


def number(names: Iterable[str]) -> tuple[Texts, np.ndarray]:
    """The different names in order of their first coming, and the number of each name's among them, (n,) int32."""
    seen, different, member = Digests(), Texts(), array("i")
    for name in names:
        at = seen.add(xxhash.xxh3_128_digest(name.encode()))
        if at == len(different):
            different.append(name)
        member.append(at)
    return different, np.array(member, np.int32)


def assign_splits(names: Sequence[str | None], member: np.ndarray, dataset: Dataset, notes: list[str]) -> np.ndarray:
    """The split of each sample (n,), its number in NAMES, by the hash of its group: approximate shares, but a group keeps its split when
    data are added. When a split would be empty, the groups whose hashes lie nearest move there. `member` (n,): the group of each."""
    hashes = _hashes(names, f"split:{dataset.seed}", len(names))
    n = len(names)
    if n < 3:
        raise DataError(f"{n} group(s) among {len(member)} samples cannot be divided into train, validation and test: three are needed, "
                        "for a group is never divided; add data or correct the group rule")  # fmt: skip
    below = [int((hashes < edge).sum()) for edge in (dataset.test, dataset.test + dataset.validation)]
    first = min(max(below[0], 1), n - 2)
    second = min(max(below[1], first + 1), n - 1)
    if [first, second] != below:
        notes.append("a split would have been empty: the groups nearest by hash moved there; shares are only as fine as groups allow")
    place = np.empty(n, np.int8)
    place[_ranked(hashes, lambda i: names[i] or "")] = np.repeat(np.arange(3, dtype=np.int8), [first, second - first, n - second])
    return place[member]


def assign_shards(
    ids: Sequence[str], rows: np.ndarray, groups: tuple[Texts, np.ndarray] | None, shards: int, seed: int, notes: list[str]
) -> np.ndarray:
    """The shard of each sample, (n,) from 1: sizes differ by at most one, ranked by hash. Known groups stay together but
    where an exact border falls inside one. `rows` (n,): which of the ids are to be divided; `groups`: names, and that of each, (n,)."""
    n = len(rows)
    if n < shards:
        raise DataError(f"{n} training samples cannot fill {shards} shards; give fewer shards or more data")
    salt, chosen = f"shard:{seed}", np.zeros(len(ids), bool)
    chosen[rows] = True
    # Ids first, then groups by a stable sort: groups lie together in order of their hash, ids within them in order of theirs.
    hashes = _hashes((id for id, kept in zip(ids, chosen.tobytes()) if kept), salt, n)
    order = _ranked(hashes, lambda i: ids[int(rows[i])])
    if groups is not None:
        names, member = groups
        rank = np.empty(len(names), np.int64)
        rank[_ranked(_hashes(names, salt, len(names)), lambda i: names[i] or "")] = np.arange(len(names))
        order = order[np.argsort(rank[member[order]], kind="stable")]
    edges = shard_edges(n, shards)
    out = np.zeros(n, np.int32)
    for shard in range(shards):
        out[order[edges[shard] : edges[shard + 1]]] = shard + 1
    if groups is not None:
        cut = sum(1 for e in edges[1:-1] if member[order[e - 1]] == member[order[e]])
        if cut:
            notes.append(f"{cut} group(s) lie in two neighbouring shards: the sizes are exact")
    return out


def _hashes(names: Iterable[str | None], salt: str, n: int) -> np.ndarray:
    return np.fromiter((unit_hash(name or "", salt) for name in names), float, n)


def _ranked(hashes: np.ndarray, name: Callable[[int], str]) -> np.ndarray:
    """Numbers in order of hash, equal hashes in order of name: the order of the names does not matter."""
    order = np.argsort(hashes, kind="stable")
    if (np.diff(hashes[order]) == 0).any():
        order = np.array(sorted(range(len(hashes)), key=lambda i: (hashes[i], name(i))), np.int64)
    return order
