"""The merges of a suite: base, shards and merged adapters side by side, their limits, certificates and sample answers."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainyard.report.loose import Loose, inner, listed, number, objects, words
from trainyard.report.views import Candidate, Gate, Merge, Model, Sample

ORDER = {"base": 0, "shard": 1, "merge": 2}


def read_merges(files: Loose, suite: str, folder: Path, models: list[Model]) -> list[Merge]:
    """Every model with a folder in merged/, by name."""
    return [_merge(files, suite, path, models) for path in sorted((folder / "merged").glob("*")) if path.is_dir()]


def _merge(files: Loose, suite: str, folder: Path, models: list[Model]) -> Merge:
    """From accepted.json; where it is not there yet, the shards' own figures and what certificates there are."""
    found = files.object(folder / "accepted.json")
    chosen = str(found.get("accepted") or "")
    certificates = {p.parent.name: files.object(p) for p in sorted(folder.glob("*/certificate.json"))}
    rows = objects(found, "candidates")
    candidates = [_candidate(r, chosen, certificates.pop(str(r.get("name")), {})) for r in rows]
    if not candidates:
        shards = [r for m in models for r in m.runs if m.name == folder.name and "-shard" in r.name]
        candidates = [
            Candidate(r.name, "shard", {s.label: s.value for s in r.scores if s.split == "test"}, state=r.state, reason=r.reason)
            for r in shards
        ]
    candidates += [_candidate({"name": name, "role": "merge"}, chosen, c) for name, c in certificates.items()]
    samples = [_sample(s) for s in objects(found, "samples")]
    basis = [
        f"{said} on {words(v.get('rows'))} {v.get('split')} rows"
        for key, said in (("chosen_on", "Limits checked"), ("reported_on", "figures shown are measured"))
        if (v := inner(found, key))
    ]
    reason = words(found.get("reason")) + (f". {', '.join(basis)}." if basis else "")
    return Merge(
        suite, folder.name, tuple(sorted(candidates, key=lambda c: ORDER.get(c.role, 3))), chosen, reason, tuple(samples), bool(found)
    )


def _candidate(row: dict[str, Any], chosen: str, certificate: dict[str, Any]) -> Candidate:
    name = str(row.get("name") or "?")
    figures, gates = inner(row, "figures"), tuple(_gate(g) for g in objects(row, "gates"))
    return Candidate(
        name,
        str(row.get("role") or "merge"),
        {str(k): number(v) for k, v in figures.items()},
        gates,
        str(row.get("state") or ""),
        words(row.get("reason")),
        name == chosen != "",
        tuple(certificate_facts(certificate)),
    )


def _gate(value: dict[str, Any]) -> Gate:
    passed = value.get("passed")
    return Gate(
        words(value.get("name")), words(value.get("figure")), words(value.get("limit")), passed if isinstance(passed, bool) else None
    )


def certificate_facts(c: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """The figures of a certificate that a person asks for, in words."""
    if not c:
        return
    yield "rank", words(c.get("rank"))
    if number(c.get("relative_error")) is not None:
        yield (
            "relative error against the true mean",
            f"{number(c['relative_error']):.2g}" + (" (exact but for rounding)" if c.get("exact") is True else ""),
        )
    errors = {k: e for k, v in inner(c, "layers").items() if isinstance(v, dict) and (e := number(v.get("relative_error"))) is not None}
    if errors:
        worst = max(errors, key=lambda k: errors[k])
        yield "largest error of a layer", f"{errors[worst]:.2g} in {worst} (of {len(errors)})"
    if off := _off_diagonal(c.get("cosine")):
        yield "cosine between adapters", f"{min(off):.3f} to {max(off):.3f} (1: they agree)"
    norms = [n for v in listed(c, "delta_norms") if (n := number(v)) is not None]
    if norms:
        yield "size of the updates (Frobenius)", f"{min(norms):.3g} to {max(norms):.3g}"
    weights = [n for v in listed(c, "weights") if (n := number(v)) is not None]
    if weights:
        yield "weights", words([round(w, 4) for w in weights])
    if (held := number(c.get("bytes"))) is not None:
        yield "size", f"{held / 1e6:.2f} MB"
    yield "base", words(c.get("base_model")) + (f", {str(c['base_identity'])[:12]}" if c.get("base_identity") else "")
    if c.get("same_file"):
        yield "inputs", "the same adapter more than once"
    for i, entry in enumerate(listed(c, "inputs")):
        if isinstance(entry, dict) and i < 24:
            path = words(entry.get("folder") or entry.get("path") or entry.get("name"))
            yield f"input {i + 1}", f"{path} {str(entry.get('sha256') or '')[:12]}".strip()


def _off_diagonal(matrix: Any) -> list[float]:
    if not isinstance(matrix, list):
        return []
    rows = [r for r in matrix if isinstance(r, list)]
    return [n for i, row in enumerate(rows) for j, v in enumerate(row) if i != j and (n := number(v)) is not None]


def _sample(value: dict[str, Any]) -> Sample:
    answer = str(value.get("answer") or "")
    pairs = tuple((str(k).replace("_", " "), words(v)) for k, v in inner(value, "checks").items())
    return Sample(words(value.get("prompt")), answer, parsed_plan(answer), pairs)


def parsed_plan(answer: str) -> dict[str, Any] | None:
    """The JSON object in an answer, if it holds rooms."""
    found = re.search(r"\{.*\}", answer, re.DOTALL)
    try:
        plan = json.loads(found.group()) if found else None
    except (ValueError, RecursionError):
        return None
    return plan if isinstance(plan, dict) and isinstance(plan.get("rooms"), list) else None
