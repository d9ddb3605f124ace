"""The figures of a merge's certificate that a person asks for, in words; what is missing or broken is left out."""

from collections.abc import Iterable
from typing import Any

from trainyard.report.loose import inner, listed, number, words

Facts = Iterable[tuple[str, str]]


def certificate_facts(c: dict[str, Any]) -> Facts:
    """(what, figure), for the report; without the inputs, which `input_facts` has."""
    if not c:
        return
    strategy = str(c.get("strategy") or "")
    if strategy in MEANINGS:
        yield "strategy", MEANINGS[strategy] + (f", density {words(c['density'])}" if "density" in c else "")
    if size := words(c.get("rank")):
        yield "rank", size
    yield from _errors(c)
    for key, what in (("1%", "rank that keeps the mean within 1 %"), ("0.1%", "… within 0.1 %")):
        if (rank := number(inner(c, "rank_for").get(key))) is not None:
            yield what, f"{rank:.0f}"
    if off := off_diagonal(matrix(c, "cosine")):
        yield "cosine between adapters", f"{min(off):.3f} to {max(off):.3f} (1: they agree)"
    if off := off_diagonal(matrix(c, "sign_agreement")):
        yield "entries where two have one sign", f"{min(off):.1%} to {max(off):.1%} (50 %: chance)"
    norms = [n for v in listed(c, "delta_norms") if (n := number(v)) is not None]
    if norms:
        yield "size of the updates (Frobenius)", f"{min(norms):.3g} to {max(norms):.3g}"
    weights = [n for v in listed(c, "weights") if (n := number(v)) is not None]
    if weights:
        by = {"loss": " (by 1 / validation loss)", "samples": " (by training samples)"}.get(str(c.get("weighted_by")), "")
        yield "weights", words([round(w, 4) for w in weights]) + by
    if (held := number(c.get("bytes"))) is not None:
        yield "size", f"{held / 1e6:.2f} MB" + (f", {words(c['dtype'])}" if c.get("dtype") else "")
    if base := words(c.get("base_model")):
        yield "base", base + (f", {str(c['base_identity'])[:12]}" if c.get("base_identity") else "")
    for field, values in inner(inner(c, "configs"), "different").items():
        yield f"{field} differs", words(values)
    if c.get("same_file"):
        yield "inputs", "the same adapter more than once"


MEANINGS = {
    "average": "mean of the updates B·A",
    "weighted": "weighted mean of the updates B·A",
    "best": "the adapter of the lowest validation loss, as it is",
    "ties": "TIES on the updates: trim, elect signs, average those that agree",
    "dare": "DARE on the updates: drop at random, rescale, average",
    "magnitude_prune": "magnitude pruning of the updates, then their average",
}


def input_facts(c: dict[str, Any], most: int = 24) -> Facts:
    for i, entry in enumerate(listed(c, "inputs")[:most]):
        if isinstance(entry, dict):
            path = words(entry.get("folder") or entry.get("path") or entry.get("name"))
            yield f"input {i + 1}", f"{path} {str(entry.get('sha256') or '')[:12]}".strip()


def _errors(c: dict[str, Any]) -> Facts:
    exact = " (exact but for rounding)" if c.get("exact") is True else ""
    if (error := number(c.get("relative_error"))) is not None:
        yield "relative error against the true mean", f"{error:.2g}{exact}"
    if (error := number(c.get("approximation_error"))) is not None:
        yield "relative error against what the strategy made", f"{error:.2g}"
    if (error := number(c.get("rounding_error"))) is not None and not exact:
        yield "of which rounding", f"{error:.2g}"
    errors = {k: e for k, v in inner(c, "layers").items() if isinstance(v, dict) and (e := number(v.get("relative_error"))) is not None}
    if errors:
        worst = max(errors, key=lambda k: errors[k])
        yield "largest error of a layer", f"{errors[worst]:.2g} in {worst} (of {len(errors)})"


def matrix(c: dict[str, Any], key: str) -> list[list[float]]:
    """A square of numbers, or nothing."""
    rows = [[n for v in row if (n := number(v)) is not None] if isinstance(row, list) else [] for row in listed(c, key)]
    return rows if all(len(row) == len(rows) for row in rows) else []


def off_diagonal(square: list[list[float]]) -> list[float]:
    return [n for i, row in enumerate(square) for j, n in enumerate(row) if i != j]
