"""The promises of the split: disjoint, complete, groups whole, the same everywhere, stable when data are added."""

import csv
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from trainyard.data.errors import DataError
from trainyard.data.index import typed_dataset
from trainyard.data.split import shard_edges, split_samples, summarise
from trainyard.data.split_lines import split_lines

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def make_index(groups: list[str], labels: list[str | None] | None = None, refused: list[int] | None = None) -> dict[str, list]:
    n = len(groups)
    bad = set(refused or [])
    return {
        "id": [f"s{i}" for i in range(n)], "path": [f"s{i}" for i in range(n)], "row": [-1] * n, "size": [1] * n,
        "label": labels or [None] * n, "group": groups, "extra": [None] * n, "refused": ["bad" if i in bad else None for i in range(n)],
    }  # fmt: skip


def dataset(**keys):
    return typed_dataset({"format": "audio", "group": {"parent": 1}, **keys})


groups_lists = st.lists(st.sampled_from([f"g{i}" for i in range(12)]), min_size=3, max_size=80).filter(lambda g: len(set(g)) >= 3)


@given(groups_lists, st.integers(0, 3), st.floats(0.01, 0.4), st.floats(0.01, 0.4))
def test_split_is_complete_and_keeps_groups_whole(groups, seed, validation, test) -> None:
    out = split_samples(make_index(groups), dataset(seed=seed, validation=validation, test=test))
    assert set(out.split) == {"train", "validation", "test"}
    places = defaultdict(set)
    for group, split in zip(groups, out.split):
        places[group].add(split)
    assert all(len(p) == 1 for p in places.values())


@given(st.integers(0, 5), st.integers(200, 400))
@settings(max_examples=20)
def test_a_sample_keeps_its_split_when_data_are_added(seed, more) -> None:
    small = [f"g{i}" for i in range(200)]
    large = [f"new{i}" for i in range(more)] + small
    first = split_samples(make_index(small), dataset(seed=seed)).split
    second = split_samples(make_index(large), dataset(seed=seed)).split
    assert second[more:] == first
    shares = Counter(second)
    assert abs(shares["test"] / len(large) - 0.15) < 0.08 and abs(shares["validation"] / len(large) - 0.15) < 0.08


def test_split_is_the_same_on_any_machine() -> None:
    index = make_index([f"singer{i}" for i in range(12)], ["a", "b"] * 6)
    once, folds = dataset(seed=7), dataset(seed=7, folds=3, shards=2)
    assert "".join(s[0] for s in split_samples(index, once).split) == "vttttttttttt"
    out = split_samples(index, folds)
    assert "".join(map(str, out.fold)) == "322133111223" and "".join(map(str, out.shard)) == "121211222112"
    assert summarise(index, {}, out, folds)["sha256"].startswith("60e38bac65e16263")


def test_refused_samples_lie_in_no_split() -> None:
    index = make_index([f"g{i}" for i in range(20)], refused=[3, 4])
    out = split_samples(index, dataset(shards=3))
    assert out.split[3] == out.split[4] == "" and out.shard[3] == 0
    assert summarise(index, {}, out, dataset(shards=3))["refused"] == 2


def test_too_few_groups_is_one_clear_error() -> None:
    with pytest.raises(DataError, match=r"2 group\(s\) among 10 samples"):
        split_samples(make_index(["a", "b"] * 5), dataset())


@given(groups_lists, st.integers(2, 6), st.integers(0, 2), st.booleans(), st.data())
def test_folds(groups, k, seed, stratify, data) -> None:
    assume(len(set(groups)) >= max(k, 4))
    labels = data.draw(st.lists(st.sampled_from(["x", "y"]), min_size=len(groups), max_size=len(groups)))
    out = split_samples(make_index(groups, labels), dataset(folds=k, seed=seed, stratify=stratify))
    assert set(out.fold.tolist()) == set(range(1, k + 1))
    g = np.array(groups)
    for f in range(1, k + 1):
        test, validation = set(g[out.fold == f]), set(g[(out.fold != f) & out.inner])
        train = set(g[(out.fold != f) & ~out.inner])
        assert test and validation and train
        assert not (test & validation or test & train or validation & train)
    again = split_samples(make_index(groups, labels), dataset(folds=k, seed=seed, stratify=stratify))
    assert (again.fold == out.fold).all() and (again.inner == out.inner).all()


def test_folds_balance_sizes_and_labels() -> None:
    rng = np.random.default_rng(0)
    groups, labels = [], []
    for g in range(100):
        label = "sick" if g % 5 == 0 else "well"
        for _ in range(rng.integers(1, 5)):
            groups.append(f"p{g}")
            labels.append(label)
    out = split_samples(make_index(groups, labels), dataset(folds=5))
    sizes = np.bincount(out.fold)[1:]
    sick = np.bincount(out.fold[np.array(labels) == "sick"])[1:]
    assert sizes.max() - sizes.min() <= 4 and sick.max() - sick.min() <= 2
    assert 0.1 < out.inner.mean() < 0.2


def test_shards_of_500000() -> None:
    assert np.diff(shard_edges(500_000, 6)).tolist() == [83_334, 83_333, 83_333, 83_334, 83_333, 83_333]


@given(st.integers(3, 120), st.integers(1, 7), st.integers(0, 2), st.integers(1, 12))
def test_shards_are_exact_disjoint_complete(n, k, seed, per_group) -> None:
    groups = [f"g{i // per_group}" for i in range(n)]
    assume(len(set(groups)) >= 3)
    keys = dataset(shards=k, seed=seed, validation=0.1, test=0.1)
    try:
        out = split_samples(make_index(groups), keys)
    except DataError as error:
        assert "cannot fill" in str(error)
        return
    train = np.array(out.split) == "train"
    assert (out.shard[~train] == 0).all()
    sizes = np.bincount(out.shard[train], minlength=k + 1)[1:]
    assert sizes.sum() == train.sum() and sizes.max() - sizes.min() <= 1
    torn = sum(len(set(out.shard[train & (np.array(groups) == g)])) > 1 for g in set(groups))
    assert torn <= k - 1


def read(folder: Path, name: str) -> list[bytes]:
    return (folder / name).read_bytes().splitlines()


rows_strategy = st.lists(st.integers(0, 400).map(lambda i: json.dumps({"id": i}).encode()), min_size=8, max_size=300)


@given(rows_strategy, st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_lines_alone(tmp_path_factory, rows, shards, fraction, seed) -> None:
    folder = tmp_path_factory.mktemp("lines")
    (folder / "in").mkdir()
    half = len(rows) // 2
    (folder / "in" / "a.jsonl").write_bytes(b"\r\n".join(rows[:half]) + b"\n\n")
    (folder / "in" / "b.jsonl").write_bytes(b"\n".join(rows[half:]))
    try:
        result = split_lines(folder / "in", folder / "out", shards, fraction, seed)
    except DataError as error:
        assert "cannot fill" in str(error)
        return
    parts = [read(folder / "out", f"shard-{i + 1:02d}.jsonl") for i in range(shards)]
    held = read(folder / "out", "eval.jsonl") if fraction else []
    assert sorted(r.strip() for p in [*parts, held] for r in p) == sorted(rows)
    sizes = [len(p) for p in parts]
    assert sizes == np.diff(shard_edges(sum(sizes), shards)).tolist()
    assert not {r.strip() for r in held} & {r.strip() for p in parts for r in p}
    assert [f["rows"] for f in result.summary["files"]] == sizes + ([len(held)] if fraction else [])


def test_rows_keep_their_side_when_rows_are_added(tmp_path: Path) -> None:
    rows = [json.dumps({"id": i}) for i in range(500)]
    held = []
    for n in (300, 500):
        (tmp_path / f"{n}.jsonl").write_text("\n".join(rows[:n]))
        split_lines(tmp_path / f"{n}.jsonl", tmp_path / f"out{n}", 3, 0.1)
        held.append(set(read(tmp_path / f"out{n}", "eval.jsonl")))
    assert held[0] == {r for r in held[1] if json.loads(r)["id"] < 300}
    assert 10 < len(held[0]) < 60


def test_command_alone_writes_shards_archives_and_leaves_out_what_is_no_row(tmp_path: Path) -> None:
    source = tmp_path / "my data"
    source.mkdir()
    rows = [json.dumps({"id": i, "text": "é" * i}, ensure_ascii=False) for i in range(100)]
    (source / "x.jsonl").write_text("\n".join([*rows[:50], "half a li", "", *rows[50:], '{"id": 7, "text": "cut']))
    (source / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + (source / "x.jsonl").read_bytes())
    out = tmp_path / "out"
    command = [
        sys.executable,
        SCRIPTS / "split_dataset.py",
        "--source",
        source,
        "--output",
        out,
        "--shards",
        "3",
        "--eval-fraction",
        "0.1",
        "--zip",
    ]
    subprocess.run(command, check=True, capture_output=True)
    names = ["shard-01.jsonl", "shard-02.jsonl", "shard-03.jsonl", "eval.jsonl"]
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, *(f"{n}.zip" for n in names), "splits.json", "quarantine.csv"])
    assert sorted(r.decode() for n in names for r in read(out, n)) == sorted(rows)
    with open(out / "quarantine.csv", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["x.jsonl:51", "x.jsonl:103"]
    summary = json.loads((out / "splits.json").read_text())
    assert summary["rows"] == 100 and summary["refused"] == 2 and all(len(f["zip_sha256"]) == 64 for f in summary["files"])


def test_shards_into_the_source_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shard-01.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    with pytest.raises(DataError, match="another --output"):
        split_lines(tmp_path, tmp_path, 2, 0.0)
    assert (tmp_path / "shard-01.jsonl").read_text() == '{"a": 1}\n{"a": 2}\n'


def test_split_needs_no_torch() -> None:
    code = "import trainyard.data.split, trainyard.data.split_lines, trainyard.data.index, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
