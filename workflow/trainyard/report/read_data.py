"""Datasets of a suite (splits.json, the copy's summary, quarantine.csv) and its preflight verdicts."""

from pathlib import Path
from typing import Any

from trainyard.report.loose import Loose, inner, listed, objects, whole, words
from trainyard.report.views.data import Check, Dataset, Preflight

SHOWN = {
    "splits",
    "folds",
    "shards",
    "inner",
    "format",
    "samples",
    "groups",
    "groups_known",
    "notes",
    "refused",
    "duplicates",
    "suite",
    "dataset",
    "sha256",
}


def read_datasets(files: Loose, suite: str, folder: Path) -> list[Dataset]:
    """Every dataset with a split or a pack, by name."""
    names = {p.name for place in ("data", "packs") for p in (folder / place).glob("*") if p.is_dir()}
    return [_dataset(files, suite, name, folder) for name in sorted(names)]


def _dataset(files: Loose, suite: str, name: str, folder: Path) -> Dataset:
    split, pack = files.object(folder / "data" / name / "splits.json"), folder / "packs" / name
    copy = next((files.object(p) for p in (pack / "summary.json", pack / "copy.json") if p.exists()), {})
    parts = {str(k): v for k, v in inner(split, "splits").items() if isinstance(v, dict)}
    folds, shards = objects(split, "folds"), [n for n in listed(split, "shards") if whole(n) is not None]
    whole_of = lambda key: {k: int(v[key]) for k, v in parts.items() if whole(v.get(key)) is not None}  # noqa: E731
    facts = tuple(
        (k.replace("_", " "), words(v)) for s in (copy, split) for k, v in s.items() if k not in SHOWN and not isinstance(v, dict)
    )
    refused = tuple((r.get("path", ""), r.get("reason", "") or "no reason given") for r in files.rows(pack / "quarantine.csv"))
    lost = next((n for s in (copy, split) if (n := whole(s.get("refused"))) is not None), len(refused))
    return Dataset(
        suite,
        name,
        format=str(split.get("format") or copy.get("format") or ""),
        counts=whole_of("samples"),
        groups=whole_of("groups"),
        balance={k: _counts(v.get("labels")) for k, v in parts.items() if _counts(v.get("labels"))},
        folds={str(f.get("fold", i + 1)): whole(f.get("samples")) or 0 for i, f in enumerate(folds)},
        shards={str(i + 1): int(n) for i, n in enumerate(shards)},
        groups_known=split.get("groups_known") if isinstance(split.get("groups_known"), bool) else None,
        refused=refused,
        lost=lost,
        duplicates=_duplicates(copy),
        facts=facts,
        notes=tuple(dict.fromkeys(words(n) for s in (split, copy) for n in listed(s, "notes"))),
    )


def _duplicates(copy: dict[str, Any]) -> int | None:
    """Duplicates left out: a number, or numbers by what was done with them."""
    found = copy.get("duplicates")
    if isinstance(found, dict):
        return sum(whole(v) or 0 for v in found.values())
    return len(found) if isinstance(found, list) else whole(found)


def _counts(value: Any) -> dict[str, int]:
    return {str(k): int(v) for k, v in value.items() if whole(v) is not None} if isinstance(value, dict) else {}


def read_preflights(files: Loose, suite: str, folder: Path) -> list[Preflight]:
    found = []
    for path in sorted((folder / "preflight").glob("*.json")):
        value = files.object(path)
        verdict = str(value.get("verdict") or "unknown")
        found.append(
            Preflight(
                suite,
                str(value.get("run") or value.get("model") or path.stem),
                verdict,
                tuple(_check(c) for c in objects(value, "checks")),
                tuple((str(k).replace("_", " "), words(v)) for k, v in inner(value, "prediction").items() if v is not None),
            )
        )
    return found


def _check(value: dict[str, Any]) -> Check:
    return Check(*(words(value.get(key)) for key in ("check", "verdict", "value", "limit", "advice")))
