"""The local copy of each format: folds, pairs of files, chat rows and folders of JSON files, tables."""

import json
from pathlib import Path

import numpy as np
import pytest
from copy_runs import numbers, prepare, refusals, run, settings
from trainyard.data.copy import Limits, LocalCopy
from trainyard.data.errors import DataError
from trainyard.data.pack import Pack
from trainyard.data.views import open_pack, open_view


def test_folds_go_into_one_pack(tmp_path: Path) -> None:
    root = numbers(tmp_path, 60)
    out, _ = run(root, settings(folds=3, group={"pattern": r"^(\d\d)"}))
    pack = out / "all.safetensors"
    for fold in (1, 2, 3):
        views = {s: open_view(pack, s, fold) for s in ("train", "validation", "test")}
        assert sorted(r for v in views.values() for r in v.rows.tolist()) == list(range(60))
        groups = {s: set(v.pack.texts("group", v.rows)) for s, v in views.items()}
        assert all(groups.values()) and not groups["test"] & (groups["train"] | groups["validation"])


def test_paired_reads_two_files_a_sample(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    rows = []
    for i in range(12):
        (root / f"a{i}.txt").write_text(str(i))
        (root / f"b{i}.txt").write_text(str(1000 * i))
        rows.append({"audio": f"a{i}.txt", "midi": f"b{i}.txt"})
    rows.append({"audio": "../secret", "midi": "b1.txt"})
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = settings(format="paired", annotations="rows.jsonl", validation=0.3, test=0.3)
    out, summary = run(root, keys, {"../secret": "train"}, "copy_readers:TwoFileReader")
    pack = Pack(out / "train.safetensors")
    assert all(pack.fixed("sum")[row] == 1001 * int(pack.text("id", row)[1:-4]) for row in range(len(pack)))
    assert summary["samples"] == 12 and "out of the root" in refusals(out)["../secret"]


def test_chat_rows_become_shards(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    lines = [json.dumps({"prompt": f"question {i}", "answer": f"ответ {i}"}) for i in range(200)]
    (root / "x.jsonl").write_bytes(
        "\n".join([*lines, lines[3], '{"prompt": "cut", "ans', '{"prompt": "x\\u0000", "answer": "y"}']).encode() + b'\n{"a": "\xff"}\n'
    )
    keys = settings(format="chat", glob=["*.jsonl"], features={}, shards=3)
    out, summary = run(root, keys, {"x.jsonl#200": "train", "x.jsonl#3": "test"}, None)
    names = ["shard-01.jsonl", "shard-02.jsonl", "shard-03.jsonl", "validation.jsonl", "test.jsonl"]
    seen = [json.loads(line) for name in names for line in (out / name).read_text().splitlines()]
    assert len(seen) == summary["samples"] == 200 and sorted(r["prompt"] for r in seen) == sorted(json.loads(x)["prompt"] for x in lines)
    assert open_pack(out / "test.jsonl").text("id", 0).startswith("x.jsonl#")
    reasons = refusals(out)
    assert len(reasons) == 4 and "leak" in reasons["x.jsonl#200"] and "JSON" in reasons["x.jsonl#201"] and "UTF-8" in reasons["x.jsonl#203"]


def test_chat_file_that_changed_since_the_index_stops_the_copy(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "x.jsonl").write_text("\n".join(json.dumps({"prompt": f"q{i}", "answer": "a"}) for i in range(20)))
    keys = settings(format="chat", glob=["*.jsonl"], features={})
    index, splits = prepare(root, keys)
    with open(root / "x.jsonl", "a") as file:
        file.write("\nmore")
    with pytest.raises(DataError, match="changed since it was indexed"):
        LocalCopy(root, index, splits, keys, Limits()).run(tmp_path / "packs", str(tmp_path / "q"), str(tmp_path / "s"))


def test_a_folder_of_many_json_files_is_read_with_few_open_and_one_that_changed_is_refused(tmp_path: Path, monkeypatch) -> None:
    import resource

    root = tmp_path / "root"
    root.mkdir()
    for i in range(400):
        (root / f"{i:03d}.json").write_text(json.dumps({"prompt": f"q{i}", "answer": "a"}, indent=1))
    (root / "many.jsonl").write_text("\n".join(json.dumps({"prompt": f"m{i}", "answer": "a"}) for i in range(9)))
    keys = settings(format="chat", glob=["*.json*"], features={})
    place = {f"{i:03d}.json#0": "train" for i in range(3)}
    index, splits = prepare(root, keys, place)
    (root / "000.json").unlink()
    (root / "001.json").write_text("{}")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        out = tmp_path / "packs"
        LocalCopy(root, index, splits, keys, Limits()).run(out, str(out / "quarantine.csv"), str(out / "s.json"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    reasons = refusals(out)
    assert set(reasons) == {"000.json#0", "001.json#0"}
    assert "No such file" in reasons["000.json#0"] and "has changed since it was indexed" in reasons["001.json#0"]
    assert sum(len((out / f"{s}.jsonl").read_text().splitlines()) for s in ("train", "validation", "test")) == 407


def test_table_rows(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    body = "".join(f"p{i // 2},{i},{'ab'[i % 2]},{i % 2}\n" for i in range(40))
    (root / "t.csv").write_text("patient,age,site,sick\n" + body + "p0,0,a,0\n")
    keys = settings(format="tabular", glob=["*.csv"], features={}, folds=4, label={"column": "sick"}, group={"column": "patient"})
    out, summary = run(root, keys, None, None)
    pack = Pack(out / "all.safetensors")
    assert len(pack) == 40 and pack.meta["classes"] == ["0", "1"] and summary["duplicates"]["same_split"] == 1
    assert pack.fixed("numeric").reshape(-1).tolist() == list(range(40)) and np.bincount(pack.fixed("fold"))[1:].tolist() == [10] * 4


@pytest.mark.parametrize("keep", [False, True])
def test_equal_rows_of_a_table_go_unless_they_are_of_different_people(tmp_path: Path, keep: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "t.csv").write_text("smokes,male,age,sick\n" + "".join(f"{i % 2},{i // 2 % 2},{50 + i % 7},{i % 2}\n" for i in range(120)))
    keys = settings(format="tabular", glob=["*.csv"], label={"column": "sick"}, features={"keep_equal_rows": keep})
    out, summary = run(root, keys, reader=None)
    assert summary["samples"] == (120 if keep else 28)
    assert sum(summary["duplicates"].values()) == (0 if keep else 92) == len(refusals(out))
    said = [note for note in summary["notes"] if "92 of 120 rows equal others" in note and "features.keep_equal_rows" in note]
    assert len(said) == (not keep)


def test_a_table_whose_rows_all_come_in_an_earlier_split_says_what_may_be_meant(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "t.csv").write_text("smokes,sick\n" + "".join(f"{i % 2},{i // 2 % 2}\n" for i in range(120)))
    with pytest.raises(DataError, match="same content as .*; if equal rows are of different people, set features.keep_equal_rows: true"):
        run(root, settings(format="tabular", glob=["*.csv"], label={"column": "sick"}, features={}), reader=None)
