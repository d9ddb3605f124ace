"""Listing folders: many questions in flight, few files held, and folders that cannot be read or go away meanwhile."""

import json
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest
import trainyard.data.walk as walking
from hypothesis import given
from hypothesis import strategies as st
from trainyard.data.errors import DataError
from trainyard.data.texts import Texts
from trainyard.data.walk import list_samples, walk


def everything(path: str) -> bool:
    return True


def tree(root: Path, folders: int, files: int) -> list[str]:
    for f in range(folders):
        (root / f"d{f}").mkdir(parents=True)
        for i in range(files):
            (root / f"d{f}" / f"{i}.wav").write_bytes(b"x")
    return sorted(f"d{f}/{i}.wav" for f in range(folders) for i in range(files))


def test_many_folders_are_read_at_once_and_sizes_before_more_folders(tmp_path: Path, monkeypatch) -> None:
    names = tree(tmp_path, 80, 3)
    lock, now, most, unsized, most_unsized = threading.Lock(), 0, 0, 0, 0
    scandir, stat = os.scandir, os.stat

    def slow(path):
        nonlocal now, most, unsized, most_unsized
        with lock:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.005)
        with lock:
            now -= 1
            unsized += 3 * ("/d" in str(path)[len(str(tmp_path)) :])
            most_unsized = max(most_unsized, unsized)
        return scandir(path)

    def count(path, *args, **keys):
        nonlocal unsized
        with lock:
            unsized -= str(path).endswith(".wav")
        return stat(path, *args, **keys)

    monkeypatch.setattr(walking.os, "scandir", slow)
    monkeypatch.setattr(walking.os, "stat", count)
    found = walk(tmp_path, everything, threads=8)
    monkeypatch.undo()
    assert [f.path for f in found] == names
    assert most == 8  # as many reads in flight as there are threads
    assert most_unsized <= 3 * 3 * 8  # and never the whole tree


def test_files_whose_size_begins_to_take_long_are_asked_for_at_once(tmp_path: Path, monkeypatch) -> None:
    names = tree(tmp_path, 1, 600)
    lock, now, most, asked = threading.Lock(), 0, 0, list[str]()
    stat = os.stat

    def slower(path, *args, **keys):
        nonlocal now, most
        if str(path).endswith(".wav"):
            with lock:
                asked.append(str(path))
                now, most = now + 1, max(most, now + 1)
            if len(asked) > 200:
                time.sleep(0.01)
            with lock:
                now -= 1
        return stat(path, *args, **keys)

    monkeypatch.setattr(walking.os, "stat", slower)
    found = walk(tmp_path, everything, threads=8)
    monkeypatch.undo()
    assert [f.path for f in found] == names
    assert len(asked) == len(set(asked)) == 600  # each once
    assert 1 < most <= 8


def test_folders_and_files_that_go_away_are_named(tmp_path: Path) -> None:
    tree(tmp_path, 3, 2)
    (tmp_path / "a.wav").write_bytes(b"x")

    def wanted(path: str) -> bool:  # asked while the top is listed, before the folders are
        if path == "a.wav":
            os.unlink(tmp_path / "a.wav")
            shutil.rmtree(tmp_path / "d1")
        return True

    reasons = {f.path: f.refused for f in walk(tmp_path, wanted, threads=1)}
    assert reasons.pop("a.wav") == "cannot be looked at: No such file or directory"
    assert reasons.pop("d1/") == "folder cannot be listed: No such file or directory"
    assert set(reasons) == {"d0/0.wav", "d0/1.wav", "d2/0.wav", "d2/1.wav"} and set(reasons.values()) == {None}


def as_nobody(*roots: Path) -> list:
    """What walk says of each root to a user who is not root, for root may read everything."""
    read, write = os.pipe()
    if not (child := os.fork()):
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        out: list = []
        for root in roots:
            try:
                out.append([[f.path, f.refused] for f in walk(root, everything)])
            except ValueError as error:
                out.append(str(error))
        os.write(write, json.dumps(out).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read, "rb") as pipe:
        return json.loads(pipe.read())


def test_a_folder_without_permission_is_named_and_a_root_without_is_an_error() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        tree(root, 2, 1)
        (root / "d1").chmod(0)
        first, second = as_nobody(root, root / "d1")
        (root / "d1").chmod(0o755)
    assert first == [["d0/0.wav", None], ["d1/", "folder cannot be listed: Permission denied"]]
    assert second == f"{root / 'd1'}: cannot be listed: Permission denied; check its rights and its mount"


def test_loops_and_deep_links_end(tmp_path: Path) -> None:
    tree(tmp_path / "songs", 2, 1)
    (tmp_path / "songs" / "d0" / "up").symlink_to("..")
    (tmp_path / "songs" / "d0" / "self").symlink_to("self")
    (tmp_path / "songs" / "d1" / "out").symlink_to("../../..")
    (tmp_path / "songs" / "d1" / "there and back.wav").symlink_to("../../songs/d0/0.wav")
    found = {f.path: f.refused for f in walk(tmp_path / "songs", everything)}
    assert set(found) == {"d0/0.wav", "d0/self", "d1/0.wav", "d1/out/", "d1/there and back.wav"}
    assert (
        found["d1/there and back.wav"] is None and found["d0/self"] == "link to nothing" and "outside the root" in (found["d1/out/"] or "")
    )


def test_a_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    tree(tmp_path / "data", 1, 2)
    (tmp_path / "root").symlink_to("data")
    assert [f.path for f in walk(tmp_path / "root", everything)] == ["d0/0.wav", "d0/1.wav"]


def test_a_missing_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be listed: No such file or directory; check its rights and its mount"):
        walk(tmp_path / "none", everything)


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)), max_size=30))
def test_texts_are_what_was_appended(values) -> None:
    texts = Texts()
    for value in values:
        texts.append(value)
    assert list(texts) == values and texts[:] == values and len(texts) == len(values)
    assert texts.column().to_pylist() == values
    if values:
        assert texts[-1] == values[-1]
        with pytest.raises(IndexError):
            texts[len(values)]


@pytest.mark.parametrize(("make", "words"), [(lambda p: p.write_bytes(b""), "empty file"), (lambda p: os.mkfifo(p), "not a regular file")])
def test_a_root_that_is_one_file_of_no_use_is_refused(tmp_path: Path, make, words: str) -> None:
    make(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match=f"rows.jsonl: {words}.*; correct the root"):
        list_samples(tmp_path / "rows.jsonl", ["**/*"], "chat")
