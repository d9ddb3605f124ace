"""The merges of a suite: base, shards and merged adapters side by side, their limits, certificates and sample answers."""

import json
import re
from pathlib import Path
from typing import Any

from trainyard.report.certificate_facts import certificate_facts, input_facts
from trainyard.report.loose import Loose, inner, number, objects, whole, words
from trainyard.report.views.merges import Candidate, Gate, Merge, Rival, Sample
from trainyard.report.views.runs import Model

SHARD = re.compile(r"-shard\d+")
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
        shards = [r for m in models for r in m.runs if r.name != folder.name and SHARD.sub("", r.name) == folder.name]
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
    ordered = tuple(sorted(candidates, key=lambda c: ORDER.get(c.role, 3)))
    rivals = tuple(rival for row in objects(found, "against") if (rival := _rival(row)) is not None)
    shown = str(found.get("shown") or "")
    return Merge(suite, folder.name, ordered, chosen, reason, tuple(samples), bool(found), shown, rivals)


def _rival(row: dict[str, Any]) -> Rival | None:
    difference = number(row.get("difference"))
    if difference is None:
        return None
    return Rival(words(row.get("name")), difference, number(row.get("low")), number(row.get("high")), whole(row.get("groups")) or 0)


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
        (*certificate_facts(certificate), *input_facts(certificate)),
        certificate,
    )


def _gate(value: dict[str, Any]) -> Gate:
    passed = value.get("passed")
    return Gate(
        words(value.get("name")), words(value.get("figure")), words(value.get("limit")), passed if isinstance(passed, bool) else None
    )


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
