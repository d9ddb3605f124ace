"""Datasets of a suite (splits.json, splits.parquet, the copy's summary, quarantine.csv) and its preflight verdicts."""

from pathlib import Path
from typing import Any

from trainyard.report.loose import Loose, whole, words
from trainyard.report.views import Check, Dataset, Preflight

SPLITS = ("train", "validation", "test")


def read_datasets(files: Loose, suite: str, folder: Path) -> list[Dataset]:
    """Every dataset with a split or a pack, by name."""
    names = {p.name for place in ("data", "packs") for p in (folder / place).glob("*") if p.is_dir()}
    return [_dataset(files, suite, name, folder) for name in sorted(names)]


def _dataset(files: Loose, suite: str, name: str, folder: Path) -> Dataset:
    split = files.object(folder / "data" / name / "splits.json")
    pack = folder / "packs" / name
    copy = next((files.object(p) for p in (pack / "summary.json", pack / "copy.json") if p.exists()), {})
    refused = tuple((r.get("path", ""), r.get("reason", "") or "no reason given") for r in files.rows(pack / "quarantine.csv"))
    table = _table(files, folder / "data" / name / "splits.parquet", folder / "data" / name / "index.parquet")
    counts = _counts(split.get("counts") or split.get("samples")) or table["counts"]
    duplicates = next((whole(s[k]) for s in (copy, split) for k in ("duplicates", "duplicate_files") if k in s and whole(s[k]) is not None), None)
    if isinstance(copy.get("duplicates"), list):
        duplicates = len(copy["duplicates"])
    shown = {"counts", "samples", "balance", "duplicates", "refused", "groups", "folds", "shards", "suite", "dataset", "format", "warnings", "settings", "sha256"}
    facts = tuple((k.replace("_", " "), words(v)) for s in (copy, split) for k, v in s.items() if k not in shown and not isinstance(v, dict))
    return Dataset(
        suite, name, format=str(copy.get("format") or split.get("format") or ""), counts=counts,
        groups=_counts(split.get("groups")) or table["groups"], balance=_balance(split.get("balance")) or table["balance"],
        folds=_counts(split.get("folds")) or table["folds"], shards=_counts(split.get("shards")) or table["shards"],
        groups_known=_known(split, table), refused=refused, duplicates=duplicates, facts=facts,
    )  # fmt: skip


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {str(k): int(v) for k, v in value.items() if whole(v) is not None}


def _balance(value: Any) -> dict[str, dict[str, int]]:
    """Counts of labels by split: {split: {label: n}}."""
    if not isinstance(value, dict):
        return {}
    return {str(k): _counts(v) for k, v in value.items() if isinstance(v, dict) and _counts(v)}


def _known(split: dict[str, Any], table: dict[str, Any]) -> bool | None:
    for key in ("groups_known", "grouped"):
        if isinstance(split.get(key), bool):
            return split[key]
    return table["known"]


def _table(files: Loose, splits: Path, index: Path) -> dict[str, Any]:
    """Counts from the split table itself, for what splits.json leaves out; labels and groups come from the index."""
    found: dict[str, Any] = {"counts": {}, "groups": {}, "balance": {}, "folds": {}, "shards": {}, "known": None}
    if not splits.exists():
        return found
    try:
        import pyarrow.parquet as pq

        table = pq.read_table(splits)
        for column, key in (("fold", "folds"), ("shard", "shards")):
            if column in table.column_names:
                values = table.column(column).value_counts().to_pylist()
                found[key] = {str(v["values"]): v["counts"] for v in sorted(values, key=lambda v: v["values"]) if v["values"]}
        found["counts"] = {s: n for s, n in _value_counts(table.column("split")).items() if n}
        if index.exists():
            known = pq.read_table(index, columns=["id", "label", "group"])
            if known.num_rows == table.num_rows:
                import pyarrow.compute as pc

                found["known"] = not bool(pc.all(pc.equal(known.column("id"), known.column("group"))).as_py())
                joined = known.append_column("split", table.column("split"))
                grouped = joined.group_by("split").aggregate([("group", "count_distinct")]).to_pylist()
                found["groups"] = {r["split"]: r["group_count_distinct"] for r in grouped}
                if known.column("label").null_count < known.num_rows and pc.count_distinct(known.column("label")).as_py() <= 50:
                    for row in joined.group_by(["split", "label"]).aggregate([("id", "count")]).to_pylist():
                        found["balance"].setdefault(row["split"], {})[str(row["label"])] = row["id_count"]
    except Exception as error:  # pyarrow raises many kinds for a file that is not parquet
        files.problems.append(f"{files.name(splits)}: {error}")
    return found


def _value_counts(column: Any) -> dict[str, int]:
    found = {v["values"]: v["counts"] for v in column.value_counts().to_pylist()}
    return {s: found.get(s, 0) for s in (*SPLITS, *sorted(set(map(str, found)) - set(SPLITS)))}


def read_preflights(files: Loose, suite: str, folder: Path) -> list[Preflight]:
    found = []
    for path in sorted((folder / "preflight").glob("*.json")):
        value = files.object(path)
        checks = value.get("checks") or []
        if isinstance(checks, dict):
            checks = [{"name": k, **(v if isinstance(v, dict) else {"figure": v})} for k, v in checks.items()]
        verdict = str(value.get("verdict") or "unknown")
        found.append(Preflight(suite, str(value.get("run") or value.get("model") or path.stem), verdict, tuple(_check(c) for c in checks if isinstance(c, dict))))
    return found


def _check(value: dict[str, Any]) -> Check:
    first = lambda *keys: next((value[k] for k in keys if value.get(k) is not None), None)  # noqa: E731
    state = first("state", "verdict", "status", "passed", "ok")
    if isinstance(state, bool):
        state = "ok" if state else "fail"
    unit = f" {value['unit']}" if value.get("unit") else ""
    figure, limit = first("figure", "value", "measured"), first("limit")
    return Check(
        str(first("name", "check") or ""), str(state or "unknown"), words(figure) + (unit if figure is not None else ""),
        words(limit) + (unit if limit is not None else ""), words(first("advice", "fix", "reason", "message", "detail")),
    )  # fmt: skip
