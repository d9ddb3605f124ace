"""Runs of the copy step in a folder of a test's own, and what they left."""

import csv
from pathlib import Path

from trainyard.data.copy import Limits, LocalCopy
from trainyard.data.index import build_index, typed_dataset
from trainyard.data.index_file import open_index, write_index
from trainyard.data.pack import Pack
from trainyard.data.split import split_samples
from trainyard.data.split_file import write_splits

HERE = Path(__file__).parent
SCRIPTS = HERE.parents[1] / "workflow" / "scripts"


def settings(**keys) -> dict:
    return {"suite": "s", "dataset": "d", "format": "midi", "glob": ["**/*.txt"], "features": {"parse_seconds": 0.5}, **keys}


def prepare(root: Path, keys: dict, place: dict[str, str] | None = None) -> tuple[str, str]:
    """Index and splits of a root; `place` overrules the split of some ids."""
    dataset = typed_dataset(keys)
    write_index(build_index(root, dataset), root.parent / "index.parquet")
    index, _ = open_index(root.parent / "index.parquet")
    splits = split_samples(index, dataset)
    for i, name in enumerate(index["id"]):
        if place and name in place and index["refused"][i] is None:
            splits.split[i] = place[name]
    write_splits(index, splits, root.parent / "splits.parquet")
    return str(root.parent / "index.parquet"), str(root.parent / "splits.parquet")


def run(
    root: Path, keys: dict, place: dict[str, str] | None = None, reader: str | None = "copy_readers:NumberReader", **limits
) -> tuple[Path, dict]:
    out = root.parent / "packs"
    copy = LocalCopy(root, *prepare(root, keys, place), keys, Limits(**limits), reader)
    return out, copy.run(out, str(out / "quarantine.csv"), str(out / "summary.json"))


def numbers(tmp_path: Path, n: int = 30) -> Path:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    for i in range(n):
        (root / f"{i:03d}.txt").write_text(str(100 + i))
    return root


def refusals(out: Path) -> dict[str, str]:
    with open(out / "quarantine.csv", newline="", encoding="utf-8") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def packed(out: Path) -> dict[str, str]:
    return {sample: name for name in ("train", "validation", "test") for sample in Pack(out / f"{name}.safetensors").texts("id")}
