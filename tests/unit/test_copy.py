"""The local copy: what is packed, what is refused and why, and that nothing half-written is left."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trainyard.data.ahead as ahead
import trainyard.data.copy_folder as copy_folder
from trainyard.config.features import FEATURES
from trainyard.data.audio import clip_features
from trainyard.data.copy import Limits, LocalCopy
from trainyard.data.decoding import reader_class
from trainyard.data.errors import DataError
from trainyard.data.index import build_index, typed_dataset
from trainyard.data.index_file import open_index, write_index
from trainyard.data.pack import Pack
from trainyard.data.refused import Refused
from trainyard.data.sources import SourceFolder
from trainyard.data.split import split_samples
from trainyard.data.split_file import write_splits
from trainyard.data.views import open_pack, open_view

HERE = Path(__file__).parent
SCRIPTS = HERE.parents[1] / "workflow" / "scripts"


@pytest.fixture(autouse=True)
def _readers_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


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


def test_every_sample_is_packed_with_its_own_values_label_and_group(tmp_path: Path) -> None:
    root = numbers(tmp_path)
    out, summary = run(root, settings(label={"pattern": r"(\d)\.txt"}, group={"pattern": r"^(\d\d)"}, validation=0.3, test=0.3), workers=2)
    where = packed(out)
    assert sorted(where) == sorted(p.name for p in root.iterdir())
    assert summary["samples"] == 30 and summary["refused"] == 0 and summary["groups_known"] and summary["bytes_read"] == 90
    for name in ("train", "validation", "test"):
        pack = Pack(out / f"{name}.safetensors")
        assert pack.meta["classes"] == [str(i) for i in range(10)] and pack.meta["made_by"] == "test"
        ids = pack.texts("id")
        assert ids == sorted(ids)
        for row, sample in enumerate(ids):
            value = 100 + int(sample[:3])
            assert pack.fixed("x")[row].tolist() == [value, 2 * value] and pack.text("text", row) == str(value)
            assert pack.at("n", row).tolist() == list(range(value % 5))
            assert pack.meta["classes"][pack.fixed("label")[row]] == sample[2] and pack.text("group", row) == sample[:2]


def test_what_is_written_does_not_depend_on_how_parallel_it_was(tmp_path: Path, monkeypatch) -> None:
    root = numbers(tmp_path, 60)
    (root / "bad.txt").write_text("word")
    (root / "odd.txt").write_text("wide")
    found = []
    for workers, chunk in ((1, 32), (3, 4)):
        monkeypatch.setattr(ahead, "BATCH", chunk)
        out, _ = run(root, settings(), workers=workers, reads=1 if workers == 1 else 16)
        found.append({p.name: p.read_bytes() for p in out.iterdir() if p.name != "summary.json"})
    assert found[0] == found[1] and len(found[0]) == 4


def test_a_file_that_misbehaves_is_refused_by_itself(tmp_path: Path) -> None:
    root = numbers(tmp_path, 40)
    odd = {
        "crash": "SIGSEGV", "exit": "exit code 3", "sleep": "did not end", "spin": "more than 0.5 s",
        "hog": "memory", "bug": "KeyError", "word": "not a number", "wide": "shape",
    }  # fmt: skip
    for word in odd:
        (root / f"{word}.txt").write_text(word)
    (root / "000_flag.txt").write_text("once")
    place = {f"{word}.txt": "train" for word in odd}
    out, summary = run(root, settings(fields={"flag": str(tmp_path / "flag")}), place, workers=2)
    reasons = refusals(out)
    assert set(reasons) == {f"{word}.txt" for word in odd} | {"000_flag.txt"}
    for word, part in odd.items():
        assert part in reasons[f"{word}.txt"], reasons[f"{word}.txt"]
    assert len(packed(out)) == 40 and summary["refused"] == 9 and summary["workers_replaced"] >= 5
    assert "is not a number" in reasons["000_flag.txt"]  # it took a worker with it once, was tried again and then judged


def test_equal_contents_never_lie_in_two_splits(tmp_path: Path) -> None:
    root = numbers(tmp_path)
    for name in ("a", "b", "c", "d", "e"):
        (root / f"twin_{name}.txt").write_text("999")
    place = {"twin_a.txt": "train", "twin_b.txt": "validation", "twin_c.txt": "test", "twin_d.txt": "test", "twin_e.txt": "train"}
    out, summary = run(root, settings(), place)
    where, reasons = packed(out), refusals(out)
    assert where["twin_c.txt"] == "test" and not {"twin_a.txt", "twin_b.txt", "twin_d.txt", "twin_e.txt"} & set(where)
    assert reasons["twin_a.txt"] == "same content as 'twin_c.txt' in test; it would leak into train"
    assert "one of them is enough" in reasons["twin_d.txt"]
    assert summary["duplicates"] == {"same_split": 1, "across_splits": 3} and summary["refused"] == 0


def test_odd_names_reach_pack_and_quarantine(tmp_path: Path) -> None:
    root = numbers(tmp_path)
    for i, name in enumerate([b'sp ace "q", x.txt', b"new\nline.txt", b"latin\xe4.txt", b"=cmd.txt"]):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_text(str(500 + i))
        Path(os.fsdecode(os.fsencode(root) + b"/bad_" + name)).write_text(f"word{i}")
    out, _ = run(root, settings())
    names = {'sp ace "q", x.txt', "new\nline.txt", r"latin\xe4.txt", "=cmd.txt"}
    assert names < set(packed(out)) and set(refusals(out)) == {f"bad_{n}" for n in names}


def test_what_is_refused_by_the_index_is_listed_and_links_out_are_not_followed(tmp_path: Path) -> None:
    root = numbers(tmp_path)
    (tmp_path / "secret.txt").write_text("7")
    (root / "zero.txt").write_bytes(b"")
    (root / "out.txt").symlink_to(tmp_path / "secret.txt")
    (root / "in.txt").symlink_to(root / "000.txt")
    index, splits = prepare(root, settings())
    (root / "gone.txt").touch()
    (root / "001.txt").unlink()
    (root / "002.txt").unlink()
    (root / "002.txt").symlink_to(tmp_path / "secret.txt")  # after the index was made
    (root / "003.txt").write_bytes(b"")
    out = tmp_path / "packs"
    LocalCopy(root, index, splits, settings(), Limits(), "copy_readers:NumberReader").run(
        out, str(out / "quarantine.csv"), str(out / "s.json")
    )
    reasons = refusals(out)
    assert set(reasons) >= {"zero.txt", "out.txt", "001.txt", "002.txt", "003.txt"} and len(packed(out)) == 27
    assert "no such file" in reasons["001.txt"] and "out of the root" in reasons["002.txt"] and "empty" in reasons["003.txt"]
    assert ("in.txt" in reasons) != ("000.txt" in reasons)  # one content, once


def test_each_file_is_opened_exactly_once(tmp_path: Path) -> None:
    root = numbers(tmp_path, 20)
    opened: Counter = Counter()
    real = os.open

    def counting(path, *rest, **more):
        opened[str(path)] += 1
        return real(path, *rest, **more)

    keys = settings()
    index, splits = prepare(root, keys)
    copy = LocalCopy(root, index, splits, keys, Limits(), "copy_readers:NumberReader")
    out = tmp_path / "packs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", counting)
        copy.run(out, str(out / "q.csv"), str(out / "s.json"))
    assert {name: n for name, n in opened.items() if name.startswith(str(root))} == {str(p): 1 for p in root.iterdir()}


def test_reading_refuses_what_is_no_plain_file_of_bounded_size(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 100)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    folder = SourceFolder(tmp_path, max_bytes=99)
    for name, why in (
        ("big", "more than"),
        ("pipe", "not a regular file"),
        ("folder", "not a regular file"),
        ("../x", "out of the root"),
        ("nope", "no such file"),
    ):
        with pytest.raises(Refused, match=why):
            folder.read(name)
    with pytest.raises(DataError, match="no longer there"):
        SourceFolder(tmp_path / "unmounted").read("a")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "grows"
    path.write_bytes(b"x" * 10)
    real = os.read

    def growing(file, size):
        with open(path, "ab") as more:
            more.write(b"y")
        return real(file, size)

    monkeypatch.setattr(os, "read", growing)
    with pytest.raises(Refused, match="changed while it was read"):
        SourceFolder(tmp_path).read("grows")


def test_a_split_with_nothing_left_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    root = numbers(tmp_path)
    (root / "odd.txt").write_text("word")
    index, _ = open_index(prepare(root, settings())[0])
    place = {name: "test" if name == "odd.txt" else "train" if i % 2 else "validation" for i, name in enumerate(index["id"])}
    with pytest.raises(DataError, match="every sample of test was refused.*'odd.txt': 'word' is not a number"):
        run(root, settings(), place)
    assert list((tmp_path / "packs").iterdir()) == []


def test_a_disk_that_would_not_hold_it_is_said_before_it_is_full(tmp_path: Path, monkeypatch) -> None:
    root = numbers(tmp_path, 300)
    monkeypatch.setattr(copy_folder, "free_bytes", lambda path: 1000)
    with pytest.raises(DataError, match="kB are missing; make room"):
        run(root, settings())
    assert list((tmp_path / "packs").iterdir()) == []


def test_where_the_size_of_a_sample_is_known_a_disk_too_small_is_said_before_one_is_read(tmp_path: Path, monkeypatch) -> None:
    root = numbers(tmp_path, 30)
    monkeypatch.setattr(copy_folder, "free_bytes", lambda path: 5 * 10**9)
    monkeypatch.setattr(SourceFolder, "read", lambda self, text: pytest.fail("a file was read"))
    with pytest.raises(DataError, match=r"packs need about [345]\d.\d GB, 5.0 GB are free: [345]\d.\d GB are missing"):
        run(root, settings(), reader="copy_readers:LargeReader")


@pytest.mark.parametrize("kind", ["audio", "paired", "video"])
def test_what_readers_say_of_the_size_of_their_samples_holds(kind: str) -> None:
    features = FEATURES[kind]()
    reader = reader_class(f"trainyard.data.{kind}:{kind.capitalize()}Reader")(features, Path(), {})
    if kind == "video":
        expected = np.zeros((features.cameras, features.frames, 3, features.size, features.size), np.uint8).nbytes
    else:
        sound = np.sin(np.arange(3 * features.sample_rate)).astype(np.float32)
        wav = io.BytesIO()
        soundfile.write(wav, sound, features.sample_rate, format="WAV")
        mel, loudness, _ = clip_features(wav.getvalue(), features, True)
        expected = mel.nbytes + (loudness.nbytes if kind == "audio" else 4 * 5 * features.notes)
    assert reader.sample_bytes() == expected


def test_splits_of_another_index_are_refused(tmp_path: Path) -> None:
    root = numbers(tmp_path)
    _, splits = prepare(root, settings())
    os.rename(splits, tmp_path / "old.parquet")
    (root / "zzz.txt").write_text("5")
    index, _ = prepare(root, settings())
    with pytest.raises(DataError, match="does not belong to this index"):
        LocalCopy(root, index, str(tmp_path / "old.parquet"), settings(), Limits(), "copy_readers:NumberReader")


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


def test_killed_in_the_middle_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    root = numbers(tmp_path, 40)
    (root / "005.txt").write_text("sleep")
    keys = settings(features={"parse_seconds": 30})
    index, splits = prepare(root, keys)
    out = tmp_path / "packs"
    code = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
import trainyard.data.ahead
from trainyard.config.features import FEATURES
from trainyard.data.audio import clip_features
from trainyard.data.copy import Limits, LocalCopy
trainyard.data.ahead.BATCH = 1
out = Path({str(out)!r})
copy = LocalCopy(Path({str(root)!r}), {index!r}, {splits!r}, {keys!r}, Limits(), "copy_readers:NumberReader")
copy.run(out, str(out / "q.csv"), str(out / "s.json"))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(out.glob(".copy/.*")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [p for p in out.iterdir() if p.name != ".copy"] == []
    (root / "005.txt").write_text("105")
    run(root, settings())
    assert sorted(p.name for p in out.iterdir()) == [
        "quarantine.csv",
        "summary.json",
        "test.safetensors",
        "train.safetensors",
        "validation.safetensors",
    ]
    assert len(packed(out)) == 40


# ---- raw files, by itself ---------------------------------------------------------------------------------------------
def raw(tmp_path: Path) -> Path:
    source = tmp_path / "My Drive"
    for i in range(8):
        (source / "audio").mkdir(parents=True, exist_ok=True)
        (source / "audio" / f"f {i}.wav").write_bytes(bytes([i]) * (100 + i))
    rows = [{"audio_path": f"/elsewhere/My Drive/audio/f {i}.wav", "also": f"audio/f {i}.wav", "note": "audio"} for i in range(6)]
    (source / "ann").mkdir()
    (source / "ann" / "train.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"audio_path": "/elsewhere/gone.wav"}])))
    return source


def copy_raw(source: Path, local: Path, *more: str) -> str:
    command = [sys.executable, SCRIPTS / "copy_to_local.py", "--source", source, "--local-root", local, *more]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_raw_copy_rewrites_annotations_and_goes_on_where_it_was(tmp_path: Path) -> None:
    source, local = raw(tmp_path), tmp_path / "local"
    copy_raw(source, local, "--annotations", "ann/train.jsonl", "--subset", "--subset-size", "3")
    rows = [json.loads(line) for line in (local / "ann" / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert "6 rows" in copy_raw(source, local, "--annotations", "ann/train.jsonl").replace("7 rows", "6 rows")
    rows = [json.loads(line) for line in (local / "ann" / "train.jsonl").read_text().splitlines()]
    named = [r for r in rows if "also" in r]
    assert len(named) == 6
    for row in named:
        assert Path(row["audio_path"]).read_bytes() == (source / row["also"]).read_bytes() and row["audio_path"].startswith(str(local))
        assert row["note"] == "audio" and (local / row["also"]).is_file()
    assert not (local / "audio" / "f 7.wav").exists()
    times = {p.name: p.stat().st_ino for p in (local / "audio").iterdir()}
    (source / "audio" / "f 2.wav").write_bytes(b"changed")
    out = copy_raw(source, local, "--annotations", "ann/train.jsonl")
    assert out.startswith("1 files copied, 5 already there")
    assert (local / "audio" / "f 2.wav").read_bytes() == b"changed"
    assert {p.name for p in (local / "audio").iterdir() if p.stat().st_ino != times[p.name]} <= {"f 2.wav"}


def test_raw_copy_into_itself_is_refused(tmp_path: Path) -> None:
    from trainyard.data.mirror import mirror

    source = raw(tmp_path)
    with pytest.raises(DataError, match="inside each other"):
        mirror(source, source / "copy", [], None, 0, 4, 1 << 20)
