"""The merges of a suite: base, shards and merged adapters side by side, their limits, certificates and sample answers."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainyard.report.loose import Loose, number, words
from trainyard.report.views import Candidate, Gate, Merge, Model, Sample, Score

ACCEPTED = "accepted.json"


def read_merges(files: Loose, suite: str, folder: Path, models: list[Model]) -> list[Merge]:
    """Every model with a folder in merged/, by name."""
    return [_merge(files, suite, path, models) for path in sorted((folder / "merged").glob("*")) if path.is_dir()]


def _merge(files: Loose, suite: str, folder: Path, models: list[Model]) -> Merge:
    accepted = files.object(folder / ACCEPTED)
    chosen = str(accepted.get("strategy") or accepted.get("accepted") or "")
    candidates: dict[str, Candidate] = {}
    for row in _listed(accepted, "table", "candidates", "rows", "tried", "strategies"):
        found = _candidate(row, chosen)
        candidates[found.name] = found
    model = next((m for m in models if m.name == folder.name), None)
    if not any(c.role == "shard" for c in candidates.values()) and model:
        for run in model.runs:
            if "-shard" in run.name:
                candidates.setdefault(run.name, Candidate(run.name, "shard", _test_figures(run.scores), state=run.state, reason=run.reason))
    samples = [_sample(s) for s in _listed(accepted, "samples", "sample")]
    for place in sorted(p for p in folder.glob("*") if p.is_dir()):
        certificate = files.object(place / "certificate.json")
        validation = next((files.object(p) for p in (place / "validation.json", place / "validate.json", place / "metrics.json") if p.exists()), {})
        old = candidates.get(place.name)
        new = _candidate({"name": place.name, "role": "merge", **validation, **({"certificate": certificate} if certificate else {})}, chosen)
        candidates[place.name] = _joined(old, new) if old else new
        if place.name == chosen or not chosen:
            samples += [_sample(s) for s in _listed(validation, "samples", "sample")]
    order = {"base": 0, "shard": 1, "merge": 2}
    rows = sorted(candidates.values(), key=lambda c: order.get(c.role, 3))
    return Merge(suite, folder.name, tuple(rows), chosen, words(accepted.get("reason")), tuple(s for s in samples if s))


def _listed(value: dict[str, Any], *keys: str) -> list[dict[str, Any]]:
    """The first of the keys that holds a list of objects, a dictionary of them (its keys become names), or one object."""
    for key in keys:
        found = value.get(key)
        if isinstance(found, list):
            return [f for f in found if isinstance(f, dict)]
        if isinstance(found, dict):
            if all(isinstance(v, dict) for v in found.values()) and found:
                return [{"name": k, **v} for k, v in found.items()]
            return [found]
    return []


def _candidate(row: dict[str, Any], chosen: str) -> Candidate:
    name = str(row.get("name") or row.get("strategy") or row.get("run") or "?")
    role = str(row.get("role") or row.get("kind") or ("base" if name == "base" else "shard" if "shard" in name else "merge"))
    source = row.get("figures") or row.get("metrics") or row
    figures = {k: number(v) for k, v in source.items() if number(v) is not None and k not in ("passed", "accepted", "seed")} if isinstance(source, dict) else {}
    gates = tuple(_gate(g) for g in _listed(row, "gates", "acceptance", "limits", "checks"))
    passed = row.get("accepted", row.get("passed", row.get("ok")))
    state = str(row.get("verdict") or row.get("state") or ("" if passed is None else "passed" if passed else "refused"))
    return Candidate(name, role, figures, gates, state, words(row.get("reason") or row.get("error")), name == chosen != "",
                     tuple(flat(row["certificate"])) if isinstance(row.get("certificate"), dict) else ())  # fmt: skip


def _joined(old: Candidate, new: Candidate) -> Candidate:
    return Candidate(old.name, old.role, {**new.figures, **old.figures}, old.gates or new.gates, old.state or new.state,
                     old.reason or new.reason, old.accepted or new.accepted, old.certificate or new.certificate)  # fmt: skip


def _gate(value: dict[str, Any]) -> Gate:
    first = lambda *keys: next((value[k] for k in keys if value.get(k) is not None), None)  # noqa: E731
    passed = first("passed", "ok")
    if passed is None and isinstance(first("verdict", "state"), str):
        passed = first("verdict", "state") in ("ok", "pass", "passed")
    return Gate(words(first("name", "check", "limit_name")), words(first("figure", "value", "measured")), words(first("limit")), passed)


def _test_figures(scores: Iterable[Score]) -> dict[str, float | None]:
    return {s.label: s.value for s in scores if s.split == "test"}


def flat(value: dict[str, Any], prefix: str = "", depth: int = 0) -> Iterable[tuple[str, str]]:
    """Nested objects as `outer inner: text` pairs; lists and dictionaries of many entries only as their number."""
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, dict) and (depth >= 2 or len(item) > 12):
            yield name, f"{len(item)} entries"
        elif isinstance(item, dict):
            yield from flat(item, f"{name} ", depth + 1)
        elif isinstance(item, list) and (len(item) > 8 or any(isinstance(i, dict | list) for i in item)):
            yield name, f"{len(item)} entries"
        else:
            yield name, words(item)


def _sample(value: dict[str, Any]) -> Sample:
    answer = value.get("answer") or value.get("output") or value.get("generated") or value.get("completion") or ""
    plan = value.get("plan") if isinstance(value.get("plan"), dict) else None
    if isinstance(answer, dict):
        plan, answer = plan or answer, json.dumps(answer, ensure_ascii=False)
    checks = value.get("checks")
    pairs = tuple((str(k).replace("_", " "), words(v)) for k, v in checks.items()) if isinstance(checks, dict) else ()
    if isinstance(checks, list):
        pairs = tuple((words(c), "yes") for c in checks)
    return Sample(words(value.get("prompt")), str(answer), plan or parsed_plan(str(answer)), pairs)


def parsed_plan(answer: str) -> dict[str, Any] | None:
    """The JSON object in an answer, if it holds rooms."""
    found = re.search(r"\{.*\}", answer, re.DOTALL)
    try:
        plan = json.loads(found.group()) if found else None
    except (ValueError, RecursionError):
        return None
    return plan if isinstance(plan, dict) and isinstance(plan.get("rooms"), list) else None
