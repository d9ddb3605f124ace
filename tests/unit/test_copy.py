"""The local copy: what is packed, what is refused and why, and that nothing half-written is left."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import trainyard.data.ahead as ahead
from copy_runs import HERE, numbers, packed, prepare, refusals, run, settings
from trainyard.data.copy import Limits, LocalCopy
from trainyard.data.errors import DataError
from trainyard.data.pack import Pack
from trainyard.data.refused import Refused
from trainyard.data.sources import SourceFolder


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


def test_splits_of_another_index_are_refused(tmp_path: Path) -> None:
    root = numbers(tmp_path)
    _, splits = prepare(root, settings())
    os.rename(splits, tmp_path / "old.parquet")
    (root / "zzz.txt").write_text("5")
    index, _ = prepare(root, settings())
    with pytest.raises(DataError, match="does not belong to this index"):
        LocalCopy(root, index, str(tmp_path / "old.parquet"), settings(), Limits(), "copy_readers:NumberReader")


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
