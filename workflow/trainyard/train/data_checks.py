"""Checks of packed data: labels, values, groups that lie in two splits. Needs no torch."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from trainyard.data.cells import parse_number
from trainyard.data.views import View
from trainyard.train.check import Check, fail, ok, warn

LOOKED_AT = 128 << 20  # bytes of a split whose values are looked at, spread over all of it: half a second
BLOCK = 4 << 20
MAX_ROWS = 200_000  # rows whose groups are compared, a split
IMBALANCE = 0.1
MANY = 20  # classes from which on a label may be an amount or an identifier
MAY_LACK = {"numeric"}  # fields in which NaN stands for a missing value, infinity does not


def check_labels(views: dict[str, View]) -> list[Check]:
    """Classes there, none missing from training, not all the same, how balanced."""
    train = views["train"].pack
    classes = list(train.meta.get("classes") or [])
    if "label" not in train or not classes:
        return []
    counts = {s: np.bincount(_labels(v)[_labels(v) >= 0], minlength=len(classes))[: len(classes)] for s, v in views.items()}
    unknown = [s for s, v in views.items() if (_labels(v) >= len(classes)).any()]
    if unknown:
        return [fail("labels", f"{unknown[0]} has labels beyond the {len(classes)} classes", "", "make the local copy again")]
    out: list[Check] = []
    seen = counts["train"]
    present = int((seen > 0).sum())
    if present == 0:
        return [fail("labels", "no training sample has a label", "1", "correct the dataset's label rule")]
    if present == 1:
        return [
            fail(
                "labels",
                f"every training sample is '{classes[int(seen.argmax())]}'",
                "2 classes",
                "there is nothing to learn: correct the label rule",
            )
        ]
    total = int(seen.sum())
    if present > MANY and present > 0.5 * total:
        advice = "a class must come again to be learned: is the label a number or an identifier? Correct the label rule"
        return [fail("labels", f"{present} classes among {total:,} training samples", f"{total // 2}", advice)]
    bare = {s: int((_labels(v) < 0).sum()) for s, v in views.items()}
    for split in ("validation", "test"):
        if not counts[split].any():
            advice = "it could judge nothing: correct the dataset's label rule"
            out.append(fail("labels", f"no {split} sample has a label", "1", advice))
    if any(bare.values()):
        words = ", ".join(f"{n:,} of {len(views[s]):,} {s} samples" for s, n in bare.items() if n)
        out.append(warn("unlabelled", words, "0", "they teach and test nothing about the label: correct the label rule, or leave them out"))
    lost = [c for i, c in enumerate(classes) if not seen[i] and any(counts[s][i] for s in ("validation", "test"))]
    if lost:
        words = f"no training sample of {_some(lost)}"
        advice = "it can never be predicted: other split seed, coarser classes or more data"
        out.append(warn("classes", words, f"{len(classes)} classes", advice))
    for split, rests in (("validation", "the choice of the best epoch"), ("test", "its score")):
        absent = [c for i, c in enumerate(classes) if not counts[split][i]]
        if absent and not lost and counts[split].any():
            words = f"no {split} sample of {_some(absent)}"
            out.append(warn("classes", words, f"{len(classes)} classes", f"{rests} will rest on the other classes"))
    if present > MANY and all(parse_number(c) is not None for c in classes):
        out.append(
            warn(
                "classes",
                f"{present} different numbers",
                "classes",
                "amounts are learned as names without order: group them, or take another label",
            )
        )
    alike = Counter(_plainly(c) for c in classes)
    twins = [c for c in classes if alike[_plainly(c)] > 1]
    if twins:
        out.append(warn("classes", f"{_some(twins)} differ in spelling only", "one spelling", "give them one name with label.map"))
    balance = float(seen[seen > 0].min() / seen.max())
    words = f"{present} classes, {int(seen[seen > 0].min()):,} to {int(seen.max()):,} samples"
    advice = "few samples of a class: read macro_f1 rather than accuracy"
    out.append(ok("labels", words, "2 classes") if balance >= IMBALANCE else warn("labels", words, f"ratio {IMBALANCE}", advice))
    return out


def _plainly(name: str) -> str:
    value = parse_number(name)
    return " ".join(name.casefold().split()) if value is None else f"{value:.10g}"


def check_columns(views: dict[str, View]) -> list[Check]:
    """Of a table: what its columns are taken for, which are not used, and what the copy found odd about them."""
    meta = views["train"].pack.meta
    if "numeric" not in meta:
        return []
    ignored, odd = meta.get("ignored") or {}, meta.get("odd") or {}
    unused = f"; not used: {_some([f'{name} ({why})' for name, why in ignored.items()], 80)}" if ignored else ""
    out = [ok("columns", f"{len(meta['numeric'])} of numbers, {len(meta['categorical'])} of categories{unused}", "")]
    if odd:
        advice = "features.drop leaves a column out, features.missing names signs for missing, features.categorical makes codes categories"
        out.append(warn("columns", _some([f"{name}: {why}" for name, why in odd.items()], 100), "none odd", advice))
    return out


def check_values(views: dict[str, View]) -> list[Check]:
    """No NaN or infinity in what is learned from or predicted; no target that never changes."""
    if not hasattr(views["train"].pack, "fixed"):
        return []
    odd, looked, total = list[str](), 0, 0
    for split, view in views.items():
        fields = [n for n in view.pack.names() if view.pack.fixed(n).dtype.kind == "f"]
        for name in fields:
            blocks, share = _blocks(view, name, LOOKED_AT // len(fields))
            is_odd = np.isinf if name in MAY_LACK else _not_finite
            if any(is_odd(block).any() for block in blocks):
                odd.append(f"{name} of {split}")
            looked, total = looked + round(share * len(view)), total + len(view)
    if odd:
        advice = "the reader let it through: make the local copy again, look at the source files"
        return [fail("values", f"NaN or infinity in {_some(odd)}", "none", advice)]
    samples = sum(map(len, views.values()))
    some = "all" if looked == total else f"{looked / total:.0%} of the"
    return [ok("values", f"{some} {samples:,} samples hold finite numbers", "none odd"), *_check_targets(views["train"])]


def _not_finite(values: np.ndarray) -> np.ndarray:
    return ~np.isfinite(values)


def _blocks(view: View, name: str, most: int) -> tuple[Iterator[np.ndarray], float]:
    """Values of a field, a block at a time, and which share of the samples they are of: all, or so many blocks spread over them that
    they hold `most` bytes."""
    pack: Any = view.pack
    values = pack.fixed(name)
    ragged = name + ".offsets" in pack
    # Of a ragged field all values are looked at, whichever sample they are of.
    rows = np.arange(len(values)) if ragged else view.rows
    width = max(1, values[:1].nbytes)
    count = max(1, BLOCK // width)
    starts = np.arange(0, len(rows), count)
    chosen = np.unique(np.linspace(0, len(starts) - 1, max(1, min(len(starts), most // (count * width)))).astype(np.int64))
    share = len(chosen) / len(starts) if len(starts) else 1.0
    return (values[rows[at : at + count]] for at in starts[chosen[: len(starts)]].tolist()), share


def _check_targets(train: View) -> list[Check]:
    pack: Any = train.pack
    if "scores" not in pack:
        return []
    scores = np.asarray(pack.fixed("scores")[train.rows], np.float64)
    names = pack.meta.get("target_names") or [f"score {i + 1}" for i in range(scores.shape[1])]
    constant = [str(n) for n, deviation in zip(names, scores.std(0)) if deviation < 1e-9]
    advice = "nothing can be learned about them: correct fields.scores"
    return [warn("targets", f"{_some(constant)} never change", "varied", advice)] if constant else []


def check_leaks(views: dict[str, View]) -> list[Check]:
    """No group and no sample in two splits; with folds, no group in two folds."""
    groups = {s: set(_texts(v, "group")) for s, v in views.items()}
    ids = {s: set(_texts(v, "id")) for s, v in views.items()}
    out: list[Check] = []
    for what, sets in (("group", groups), ("sample", ids)):
        for a, b in (("train", "test"), ("train", "validation"), ("validation", "test")):
            both = sets[a] & sets[b]
            if both:
                advice = "scores would be too good: make the split again"
                out.append(fail("leaks", f"{len(both)} {what}s lie in {a} and {b}, such as '{_short(min(both))}'", "0", advice))
    pack = views["train"].pack
    if "fold" in pack and hasattr(pack, "fixed"):
        place: dict[str, int] = {}
        torn = sum(place.setdefault(g, f) != f for g, f in zip(pack.texts("group"), np.asarray(pack.fixed("fold")).tolist()))
        if torn:
            out.append(fail("leaks", f"{torn} samples lie in another fold than their group", "0", "make the split again"))
    if not out:
        count = sum(map(len, groups.values()))
        cut = f", of the first {MAX_ROWS:,} samples of each" if any(len(v) > MAX_ROWS for v in views.values()) else ""
        out.append(ok("leaks", f"no group lies in two splits ({count:,} groups{cut})", "0"))
    if all(groups[s] == ids[s] for s in views):
        advice = "samples of one person or piece may lie on both sides (leak): give the dataset a group rule"
        out.append(warn("groups", "unknown", "known", advice))
    return out


def _labels(view: View) -> np.ndarray:
    return np.asarray(view.pack.fixed("label"))[view.rows].astype(np.int64)  # type: ignore[attr-defined]


def _texts(view: View, name: str) -> list[str]:
    pack: Any = view.pack
    return pack.texts(name, view.rows[:MAX_ROWS])


def _some(names: list[str], length: int = 40) -> str:
    return ", ".join(_short(n, length) for n in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _short(text: str, length: int = 40) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= length else text[: length - 1] + "…"
