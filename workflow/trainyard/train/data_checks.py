"""Checks of packed data: labels, values, groups that lie in two splits. Needs no torch."""

from collections import Counter
from typing import Any

import numpy as np

from trainyard.data.cells import parse_number
from trainyard.data.views import View
from trainyard.train.check import Check, fail, ok, warn

SAMPLED = 2000  # rows whose values are looked at
MAX_ROWS = 200_000  # rows whose groups are compared, a split
IMBALANCE = 0.1
MANY = 20  # classes from which on a label may be an amount or an identifier
MAY_LACK = {"numeric"}  # fields in which NaN stands for a missing value


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
    if any(bare.values()):
        words = ", ".join(f"{n:,} of {len(views[s]):,} {s} samples" for s, n in bare.items() if n)
        out.append(warn("unlabelled", words, "0", "they teach and test nothing about the label: correct the label rule, or leave them out"))
    lost = [c for i, c in enumerate(classes) if not seen[i] and any(counts[s][i] for s in ("validation", "test"))]
    if lost:
        words = f"no training sample of {_some(lost)}"
        advice = "it can never be predicted: other split seed, coarser classes or more data"
        out.append(warn("classes", words, f"{len(classes)} classes", advice))
    absent = [c for i, c in enumerate(classes) if not counts["test"][i]]
    if absent and not lost:
        out.append(
            warn("classes", f"no test sample of {_some(absent)}", f"{len(classes)} classes", "its score will rest on the other classes")
        )
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
    view = views["train"]
    pack = view.pack
    if not hasattr(pack, "fixed"):
        return []
    rows = view.rows[np.linspace(0, len(view) - 1, min(len(view), SAMPLED)).astype(np.int64)]
    odd: list[str] = []
    for name in pack.names():
        array = pack.fixed(name)
        if array.dtype.kind != "f" or name in MAY_LACK:
            continue
        # A ragged field has no row a sample: its first values are looked at.
        part = array[rows] if name + ".offsets" not in pack and len(array) == len(pack) else array[: 1 << 20]
        if not np.isfinite(part.astype(np.float32)).all():
            odd.append(name)
    if odd:
        return [
            fail(
                "values",
                f"NaN or infinity in {_some(odd)}",
                "none",
                "the reader let it through: make the local copy again, look at the source files",
            )
        ]
    out = [ok("values", f"{len(rows):,} training samples hold finite numbers", "none odd")]
    if "scores" in pack:
        scores = np.asarray(pack.fixed("scores")[rows], np.float64)
        names = pack.meta.get("target_names") or [f"score {i + 1}" for i in range(scores.shape[1])]
        constant = [str(n) for n, deviation in zip(names, scores.std(0)) if deviation < 1e-9]
        if constant:
            out.append(
                warn("targets", f"{_some(constant)} never change", "varied", "nothing can be learned about them: correct fields.scores")
            )
    return out


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
        out.append(ok("leaks", f"no group lies in two splits ({count:,} groups)", "0"))
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
