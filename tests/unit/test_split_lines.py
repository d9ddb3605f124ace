"""Dividing JSONL by itself: exact, disjoint, complete, whatever the lines hold; and nothing half-written stays."""

import csv
import errno
import fcntl
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trainyard.data.row_writer as row_writer
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from trainyard.data.errors import DataError
from trainyard.data.files import sha256_file
from trainyard.data.shards import HashBorders, select_ranks, shard_edges
from trainyard.data.split_lines import split_lines

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def read(folder: Path, name: str) -> list[bytes]:
    return (folder / name).read_bytes().splitlines()


def rows_of(folder: Path) -> dict[str, list[bytes]]:
    return {p.name: read(folder, p.name) for p in sorted(folder.glob("*.jsonl"))}


def make(path: Path, numbers, extra: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": i}) + "\n" for i in numbers) + extra)
    return path


hashes_strategy = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 3), st.integers(2**63, 2**63 + 2)), min_size=1, max_size=60)


@given(hashes_strategy, st.integers(1, 5), st.integers(1, 7))
def test_ranks_are_those_of_a_sort(values, pieces, shards) -> None:
    parts = np.array_split(np.array(values, np.uint64), pieces)
    ranks = [e for e in shard_edges(len(values), shards)[1:-1] if e < len(values)]
    ordered = sorted(values)
    assert select_ranks(parts, ranks) == [(ordered[r], r - ordered.index(ordered[r])) for r in sorted(set(ranks))]


@given(hashes_strategy.filter(lambda v: len(v) >= 7), st.integers(1, 7), st.integers(1, 5))
def test_borders_give_exact_sizes_even_among_equal_hashes(values, shards, pieces) -> None:
    parts = np.array_split(np.array(values, np.uint64), pieces)
    edges = shard_edges(len(values), shards)
    borders = HashBorders(select_ranks(parts, edges[1:-1]))
    places = [borders.place(part) for part in parts]
    assert np.bincount(np.concatenate(places), minlength=shards).tolist() == np.diff(edges).tolist()
    ranked = sorted(zip(values, np.concatenate(places).tolist()))
    assert [p for _, p in ranked] == sorted(p for _, p in ranked)


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
    for output in (tmp_path, tmp_path / "below" / "it"):
        with pytest.raises(DataError, match="lies in the source folder"):
            split_lines(tmp_path, output, 2, 0.0)
    assert (tmp_path / "shard-01.jsonl").read_text() == '{"a": 1}\n{"a": 2}\n' and not (tmp_path / "below").exists()


def test_shards_may_lie_beside_a_file_but_not_in_its_place(tmp_path: Path) -> None:
    rows = make(tmp_path / "rows.jsonl", range(20))
    split_lines(rows, tmp_path, 2, 0.0)
    division = rows_of(tmp_path)
    split_lines(rows, tmp_path, 2, 0.0)
    assert rows_of(tmp_path) == division and len(division["rows.jsonl"]) == 20
    (tmp_path / "link.jsonl").symlink_to("shard-01.jsonl")
    for source in ("shard-01.jsonl", "link.jsonl"):
        with pytest.raises(DataError, match="take the place of the source"):
            split_lines(tmp_path / source, tmp_path, 2, 0.0)
    assert rows_of(tmp_path)["shard-01.jsonl"] == division["shard-01.jsonl"]


def test_a_file_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    rows, other = make(tmp_path / "rows.jsonl", range(20)), make(tmp_path / "eval.jsonl", range(3))
    with pytest.raises(DataError, match="holds eval.jsonl, and no splits.json"):
        split_lines(rows, tmp_path, 2, 0.5)
    assert len(read(tmp_path, "eval.jsonl")) == 3 and len(list(tmp_path.iterdir())) == 2
    other.unlink()
    for _ in range(2):
        split_lines(rows, tmp_path, 2, 0.5)
    (tmp_path / "splits.json").unlink()
    (tmp_path / ".split").mkdir()  # as a kill leaves it while an earlier division is replaced
    split_lines(rows, tmp_path, 2, 0.5)


def test_a_source_that_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        split_lines(tmp_path / "rows.jsonl", tmp_path / "out", 2, 0.0)


def test_shards_do_not_depend_on_names_order_or_number_of_files(tmp_path: Path) -> None:
    make(tmp_path / "one" / "a.jsonl", range(300))
    make(tmp_path / "two" / "z.jsonl", reversed(range(150)))
    make(tmp_path / "two" / "b" / "c.ndjson", range(150, 300))
    done = []
    for name in ("one", "two"):
        split_lines(tmp_path / name, tmp_path / f"out {name}", 4, 0.1, seed=3)
        done.append({k: sorted(v) for k, v in rows_of(tmp_path / f"out {name}").items()})
    assert done[0] == done[1] and sum(map(len, done[0].values())) == 300
    split_lines(tmp_path / "one", tmp_path / "other seed", 4, 0.1, seed=4)
    assert {k: sorted(v) for k, v in rows_of(tmp_path / "other seed").items()} != done[0]


def test_the_same_in_a_fresh_process_with_another_hash_seed(tmp_path: Path) -> None:
    make(tmp_path / "rows.jsonl", range(200))
    for seed in ("1", "2"):
        command = [sys.executable, SCRIPTS / "split_dataset.py", "--source", tmp_path / "rows.jsonl", "--output", tmp_path / seed, "--zip"]
        subprocess.run([*command, "--seed", "5"], check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": seed})
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / s).iterdir()} for s in "12")
    assert first == second and len(first) == 15
    # From the bytes and the seed alone: the same on every machine and in every version.
    assert [json.loads(row)["id"] for row in first["shard-01.jsonl"].splitlines()][:6] == [5, 23, 28, 33, 44, 49]


ODD = {
    "half line": (b'{"id": 1, "text": "cut', False),
    "rest of a line": (b'text"}', False),
    "array": (b"[1, 2]", False),
    "word": (b"null", False),
    "zero bytes only": (b"\0\0\0", False),
    "zero byte in a row": (b'{"id": "a\0b"}', True),
    "invalid UTF-8": (b'{"id": "\xff\xfe"}', True),
    "duplicate keys": (b'{"id": 1, "id": 2}', True),
    "spaces around": (b'  {"id": 1}\t ', True),
    "carriage return inside": (b'{"id":\r1}', True),
    "long": (b'{"id": "' + b"x" * 3_000_000 + b'"}', True),
    "line separator of unicode": ('{"id": "\u2028\x85"}'.encode(), True),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("last", [False, True])
def test_odd_lines_are_kept_as_they_are_or_named(tmp_path: Path, name: str, last: bool) -> None:
    line, kept = ODD[name]
    rows = [json.dumps({"id": i}).encode() for i in range(20)]
    lines = [*rows, line] if last else [*rows[:7], line, *rows[7:]]
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(lines))
    split_lines(tmp_path / "x.jsonl", tmp_path / "out", 3, 0.1)
    written = b"".join(p.read_bytes() for p in (tmp_path / "out").glob("*.jsonl"))
    assert sorted(written.split(b"\n")[:-1]) == sorted([*rows, line] if kept else rows)
    if kept:
        assert not (tmp_path / "out" / "quarantine.csv").exists()
    else:
        with open(tmp_path / "out" / "quarantine.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["path"] == f"x.jsonl:{21 if last else 8}" and "not a JSON object" in row["reason"]


def test_blank_lines_marks_and_carriage_returns_are_not_rows(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'\xef\xbb\xbf{"id": 1}\r\n\r\n \t\n{"id": 2}\r\n\n{"id": 3}')
    result = split_lines(tmp_path / "x.jsonl", tmp_path / "out", 1, 0.0)
    assert (tmp_path / "out" / "shard-01.jsonl").read_bytes() == b'{"id": 1}\r\n{"id": 2}\r\n{"id": 3}\n' and result.refused == 0


def test_equal_rows_lie_on_one_side_of_eval(tmp_path: Path) -> None:
    make(tmp_path / "x.jsonl", [i % 40 for i in range(400)])
    split_lines(tmp_path / "x.jsonl", tmp_path / "out", 3, 0.3)
    parts = rows_of(tmp_path / "out")
    held = set(parts.pop("eval.jsonl"))
    assert held and not held & {r for rows in parts.values() for r in rows}


def test_files_of_a_folder_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    make(tmp_path / "in" / "a.jsonl", range(10))
    make(tmp_path / "elsewhere.jsonl", range(100, 110))
    (tmp_path / "in" / "out of it.jsonl").symlink_to("../elsewhere.jsonl")
    (tmp_path / "in" / "empty.jsonl").touch()
    (tmp_path / "in" / os.fsdecode(b"n\xe4me\n.jsonl")).write_text('{"id": 11}\nno row\n')
    result = split_lines(tmp_path / "in", tmp_path / "out", 2, 0.0)
    with open(tmp_path / "out" / "quarantine.csv", newline="") as file:
        reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == {"out of it.jsonl", "empty.jsonl", "n\\xe4me\n.jsonl:2"} and "not followed" in reasons["out of it.jsonl"]
    assert sum(result.counts.values()) == 11 and result.refused == 3


def test_checksums_are_of_the_files(tmp_path: Path) -> None:
    make(tmp_path / "x.jsonl", range(100))
    for entry in split_lines(tmp_path / "x.jsonl", tmp_path / "out", 3, 0.1, archives=True).summary["files"]:
        data = (tmp_path / "out" / entry["file"]).read_bytes()
        assert (len(data), xxhash.xxh3_128_hexdigest(data), data.count(b"\n")) == (entry["bytes"], entry["xxh3"], entry["rows"])
        assert sha256_file(tmp_path / "out" / f"{entry['file']}.zip") == entry["zip_sha256"]
        with zipfile.ZipFile(tmp_path / "out" / f"{entry['file']}.zip") as archive:
            assert archive.read(entry["file"]) == data


@pytest.mark.parametrize("archives", [False, True])
@pytest.mark.parametrize("fails", ["pwrite", "fsync"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch, fails: str, archives: bool) -> None:
    make(tmp_path / "x.jsonl", range(3000))
    split_lines(tmp_path / "x.jsonl", tmp_path / "out", 2, 0.1)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    calls = 0

    def full(*args):
        nonlocal calls
        calls += 1
        if calls > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    real = getattr(os, fails)
    monkeypatch.setattr(row_writer, "BLOCK", 4096)
    monkeypatch.setattr(row_writer, "FLUSH", 4096)
    monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="No space left"):
        split_lines(tmp_path / "x.jsonl", tmp_path / "out", 3, 0.1, archives=archives)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch) -> None:
    source = make(tmp_path / "x.jsonl", range(50))
    real = row_writer.deal_rows

    def grow(*args):
        source.write_text(source.read_text() + '{"id": 50}\n')
        return real(*args)

    monkeypatch.setattr(row_writer, "deal_rows", grow)
    with pytest.raises(DataError, match="changed while"):
        split_lines(source, tmp_path / "out", 2, 0.0)

    def shrink(*args):
        source.write_text('{"id": 1}\n')
        return real(*args)

    monkeypatch.setattr(row_writer, "deal_rows", shrink)
    with pytest.raises(DataError, match="shorter while"):
        split_lines(source, tmp_path / "out", 2, 0.0)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_run_left_is_cleared_and_a_running_one_is_not_disturbed(tmp_path: Path) -> None:
    make(tmp_path / "x.jsonl", range(50))
    work = tmp_path / "out" / ".split"
    work.mkdir(parents=True)
    (work / "shard-01.jsonl").write_text("half")
    lock = os.open(work, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another split_dataset.py is writing"):
        split_lines(tmp_path / "x.jsonl", tmp_path / "out", 2, 0.0)
    assert (work / "shard-01.jsonl").read_text() == "half"
    os.close(lock)
    split_lines(tmp_path / "x.jsonl", tmp_path / "out", 2, 0.0)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["shard-01.jsonl", "shard-02.jsonl", "splits.json"]


def test_an_earlier_division_is_replaced_whole(tmp_path: Path) -> None:
    make(tmp_path / "x.jsonl", range(50), "no row\n")
    split_lines(tmp_path / "x.jsonl", tmp_path / "out", 5, 0.2, archives=True)
    make(tmp_path / "x.jsonl", range(50))
    split_lines(tmp_path / "x.jsonl", tmp_path / "out", 2, 0.0)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["shard-01.jsonl", "shard-02.jsonl", "splits.json"]


@pytest.mark.parametrize(
    ("shards", "fraction", "says"),
    [(0, 0.1, "--shards must be 1"), (501, 0.1, "1 to 500"), (2, 1.0, "--eval-fraction in"), (40, 0.5, "cannot fill 40 shards")],
)
def test_mistakes_are_said(tmp_path: Path, shards: int, fraction: float, says: str) -> None:
    with pytest.raises(DataError, match=says):
        split_lines(make(tmp_path / "x.jsonl", range(50)), tmp_path / "out", shards, fraction)
    with pytest.raises(DataError, match="no such file"):
        split_lines(tmp_path / "none", tmp_path / "out", 2, 0.1)
    (tmp_path / "list.json").write_text(json.dumps([{"a": 1}, {"a": 2}], indent=1))
    with pytest.raises(DataError, match="left out: 8 lines or files, such as list.json:1 .the line is not a JSON object"):
        split_lines(tmp_path / "list.json", tmp_path / "out", 2, 0.1)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="ends in .jsonl"):
        split_lines(tmp_path / "folder", tmp_path / "out", 2, 0.1)
    assert not (tmp_path / "out").exists()
