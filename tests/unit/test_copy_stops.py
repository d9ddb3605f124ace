"""A local copy that cannot go on, or should not begin: sources that change, splits left empty, disks too small."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trainyard.data.copy_folder as copy_folder
import trainyard.data.work_folder as work_folder
from copy_runs import SCRIPTS, numbers, prepare, run, settings
from trainyard.config.features import FEATURES
from trainyard.data.audio import clip_features
from trainyard.data.decoding import reader_class
from trainyard.data.errors import DataError
from trainyard.data.index_file import open_index
from trainyard.data.refused import Refused
from trainyard.data.sources import SourceFolder


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


def test_packs_among_the_data_themselves_are_refused_and_no_file_of_theirs_is_removed(tmp_path: Path) -> None:
    root, kept = tmp_path / "rows", tmp_path / "packs" / "my rows.jsonl"
    root.mkdir()
    (root / "train.jsonl").write_text("".join(json.dumps({"prompt": f"p{i}", "answer": f"a{i}"}) + "\n" for i in range(40)))
    index, splits = prepare(root, {"format": "chat"})
    kept.parent.mkdir()
    kept.write_text("mine")
    old = kept.with_name("shard-09.jsonl")
    old.touch()

    def copy(source: Path, output: Path) -> subprocess.CompletedProcess:
        given = ["--index", index, "--splits", splits, "--settings", '{"format": "chat"}', "--output-dir", output]
        command = [sys.executable, SCRIPTS / "copy_to_local.py", "--root", source, *given]
        return subprocess.run([*command, "--quarantine", tmp_path / "q", "--summary", tmp_path / "s"], capture_output=True, text=True)

    before = (root / "train.jsonl").read_bytes()
    for source in (root, root / "train.jsonl"):
        done = copy(source, root / "x" / "..")
        assert done.returncode == 1 and "is the folder of the data themselves" in done.stderr
    assert [p.name for p in root.iterdir()] == ["train.jsonl"] and (root / "train.jsonl").read_bytes() == before
    done = copy(root, kept.parent)
    assert done.returncode == 0, done.stderr
    assert kept.read_text() == "mine" and not old.exists() and (kept.parent / "train.jsonl").stat().st_size


def test_a_folder_that_was_removed_while_its_lock_was_waited_for_is_made_anew(tmp_path: Path, monkeypatch) -> None:
    flock = work_folder.fcntl.flock

    def late(handle, how):
        flock(handle, how)
        monkeypatch.undo()
        shutil.rmtree(tmp_path / "work")

    monkeypatch.setattr(work_folder.fcntl, "flock", late)
    with work_folder.held(tmp_path / "work", "busy") as folder:
        (folder / "x").touch()
        with pytest.raises(DataError, match="busy"), work_folder.held(tmp_path / "work", "busy"):
            pass
