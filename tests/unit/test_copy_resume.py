"""A local copy that is killed goes on where it was: to the same bytes, without opening again what it had verified."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from copy_runs import HERE, numbers, packed, prepare, refusals, run, settings
from trainyard.data.chat import ChatReader
from trainyard.data.copy import Limits, LocalCopy
from trainyard.data.errors import DataError
from trainyard.data.growing import GrowingFile
from trainyard.data.loading import RowLoader
from trainyard.data.pack import Pack, PackError, PackWriter

KILLS = 10
# The copy as a process of its own that notes every file it opens below the root.
PROGRAM = """
import json, os, sys
sys.path.insert(0, {here!r})
root, log = {root!r}, os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(root + "/"):
        os.write(log, (os.path.relpath(arguments[0], root) + "\\n").encode())
sys.addaudithook(note)
from trainyard.command import thread_limit
thread_limit(1)  # as the command does: a process with threads would read rows itself, and not have a fork do it
from pathlib import Path
import trainyard.data.ahead, trainyard.data.copy
trainyard.data.copy.COMMIT_SECONDS = 0.01
trainyard.data.ahead.BATCH = 4
from trainyard.data.copy import Limits, LocalCopy
copy = LocalCopy(Path(root), {index!r}, {splits!r}, json.loads({keys!r}), Limits(workers=2), {reader!r})
out = Path({out!r})
os.write(log, b"begins\\n")
copy.run(out, str(out / "quarantine.csv"), str(out / "summary.json"))
"""


class Attempts:
    """Copies of one data set into one folder, some of them killed."""

    def __init__(self, root: Path, keys: dict, reader: str, place: dict[str, str] | None = None):
        self.out, self.log = root.parent / "packs", root.parent / "opened"
        self.index, self.splits = prepare(root, keys, place)
        self.program = PROGRAM.format(
            here=str(HERE), root=str(root), log=str(self.log), index=self.index, splits=self.splits, keys=json.dumps(keys),
            reader=reader, out=str(self.out),
        )  # fmt: skip

    def go(self, seconds: float | None, after: str = "progress") -> tuple[list[str], bool]:
        """Paths that were opened, and whether it ended; it is killed so long after it began, or after it got further than before."""
        self.log.unlink(missing_ok=True)
        before = len(self.committed())
        process = subprocess.Popen([sys.executable, "-c", self.program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            if seconds is not None:
                end = time.monotonic() + 60
                while process.poll() is None and not self._reached(after, before) and time.monotonic() < end:
                    time.sleep(0.005)
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
            text = process.communicate(timeout=120)[0].decode()
        finally:
            process.kill()
        assert process.returncode in (0, -signal.SIGKILL), text
        return [line for line in self.log.read_text().splitlines() if line != "begins"], process.returncode == 0

    def _reached(self, after: str, before: int) -> bool:
        if after == "progress":
            return len(self.committed()) > before
        return self.log.exists() and self.log.stat().st_size > 0

    def committed(self) -> list[list]:
        """[row, kind, reason, digest, stamps] of every sample that the journal holds."""
        try:
            lines = (self.out / ".copy" / "journal.jsonl").read_bytes().split(b"\n")[1:-1]
        except OSError:
            return []
        return [o for line in lines for o in json.loads(line)["outcomes"]]


def contents(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir() if p.name != "summary.json"}


def test_ten_kills_and_the_same_bytes_and_nothing_verified_is_opened_again(tmp_path: Path) -> None:
    root = numbers(tmp_path, 300)
    for word in ("word", "wide", "crash"):
        (root / f"20{word}1.txt").write_text(word)
    for i in range(0, 60, 7):
        (root / f"twin{i:03d}.txt").write_text(str(100 + i))
    keys = settings(label={"pattern": r"(\d)\.txt"}, group={"pattern": r"^(\d\d|twin)"}, features={"parse_seconds": 5})
    expected, _ = run(root, keys, reader="copy_readers:SlowNumberReader", workers=2)
    attempts = Attempts(root, keys, "copy_readers:SlowNumberReader")
    ids = sorted(p.name for p in root.iterdir())
    wanted = contents(expected)
    shutil.rmtree(expected)
    dice, opened, kills, progress = random.Random(3), Counter(), 0, []
    for _ in range(3 * KILLS):
        known = {ids[o[0]] for o in attempts.committed()}
        now, ended = attempts.go(dice.random() * 0.2 if kills < KILLS else None, "start" if kills % 5 == 1 else "progress")
        assert not known & set(now), "opened again"
        opened.update(now)
        if ended:
            break
        kills += 1
        progress.append(len(attempts.committed()))
        assert [p.name for p in attempts.out.iterdir() if p.name != ".copy"] in ([], sorted(wanted))
    assert ended and contents(attempts.out) == wanted
    assert set(opened) == set(ids) and kills == KILLS, progress
    assert not (attempts.out / ".copy").exists()
    summary = json.loads((attempts.out / "summary.json").read_text())
    assert summary["files_read"] == len(ids) and summary["resumed_after"] == progress[-1]


def test_kills_among_chat_rows_and_the_same_bytes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    lines = [json.dumps({"prompt": f"question {i % 900}", "answer": "yes" if i % 9 else ""}) for i in range(1000)]
    (root / "x.jsonl").write_text("\n".join(lines))
    keys = settings(format="chat", glob=["*.jsonl"], features={}, shards=3)
    expected, _ = run(root, keys, reader=None)
    wanted = contents(expected)
    shutil.rmtree(expected)
    attempts, progress = Attempts(root, keys, "copy_readers:SlowRowReader"), [0]
    dice = random.Random(4)
    for _ in range(3):
        attempts.go(0.2 * dice.random())
        progress.append(len(attempts.committed()))
    assert progress == sorted(progress) and progress[-1] > 5
    _, ended = attempts.go(None)
    assert ended and contents(attempts.out) == wanted


def test_sources_that_change_between_two_attempts_are_read_again(tmp_path: Path) -> None:
    root = numbers(tmp_path, 150)
    (root / "gone.txt").write_text("9")
    keys = settings(features={"parse_seconds": 5})
    attempts = Attempts(root, keys, "copy_readers:SlowNumberReader", {"000.txt": "test", "gone.txt": "test"})
    (root / "gone.txt").rename(tmp_path / "away")
    while len(done := attempts.committed()) < 30:
        assert not attempts.go(0.25)[1]
    first = done[-1][0]
    name = sorted([*(p.name for p in root.iterdir()), "gone.txt"])[first]
    (root / name).write_text("31337")
    now, ended = attempts.go(None)
    assert ended and name in now and "31337" in read_texts(attempts.out)
    assert "000.txt" not in now  # what lies before the change is kept
    assert "no such file" in refusals(attempts.out)["gone.txt"]


def test_a_json_file_of_its_own_that_changes_between_two_attempts_is_read_again(tmp_path: Path, monkeypatch) -> None:
    root, out = tmp_path / "root", tmp_path / "packs"
    root.mkdir()
    for i in range(80):
        (root / f"{i:02d}.json").write_text(json.dumps({"prompt": f"question {i:02d}", "answer": "yes"}))
    keys = settings(format="chat", glob=["*.json"], features={})
    index, splits = prepare(root, keys)
    read, read_alone, opened = ChatReader.read, RowLoader._read_alone, []
    monkeypatch.setattr("trainyard.data.copy.COMMIT_SECONDS", 0)
    monkeypatch.setattr("trainyard.data.ahead.BATCH", 1)

    def attempt(rows: int) -> None:
        opened.clear()
        left = iter(range(rows))

        def some(self, blobs, sample):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return read(self, blobs, sample)

        monkeypatch.setattr(ChatReader, "read", some)
        LocalCopy(root, index, splits, keys, Limits()).run(out, str(out / "quarantine.csv"), str(out / "summary.json"))

    monkeypatch.setattr(RowLoader, "_read_alone", lambda self, sample: opened.append(sample["path"]) or read_alone(self, sample))
    with pytest.raises(KeyboardInterrupt):
        attempt(60)
    lines = (out / ".copy" / "journal.jsonl").read_bytes().splitlines()[1:]
    done = [f"{outcome[0]:02d}.json" for line in lines for outcome in json.loads(line)["outcomes"]]
    assert len(done) == 60 and len(set(done)) == 60
    before = (root / done[-5]).stat()
    (root / done[-5]).write_text(json.dumps({"prompt": f"question {done[-5][:2]}", "answer": "no!"}))
    os.utime(root / done[-5], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    attempt(80)
    assert done[-5] in opened and not set(done[:5]) & set(opened)  # what lies before the change is kept
    packed_rows = [json.loads(line) for split in ("train", "validation", "test") for line in (out / f"{split}.jsonl").open()]
    answers = {row["id"]: row["answer"] for row in packed_rows}
    assert len(answers) == 80 and [i for i, answer in answers.items() if answer == "no!"] == [f"{done[-5]}#0"]


def read_texts(out: Path) -> set[str]:
    return {t for split in ("train", "validation", "test") for t in Pack(out / f"{split}.safetensors").texts("text")}


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    root = numbers(tmp_path, 100)
    keys = settings(features={"parse_seconds": 5})
    attempts = Attempts(root, keys, "copy_readers:SlowNumberReader", {"000.txt": "test"})
    (root / "000.txt").rename(tmp_path / "away")
    assert not attempts.go(0.05)[1] and attempts.committed()
    (tmp_path / "away").rename(root / "000.txt")
    attempts.go(None)
    assert "000.txt" in packed(attempts.out) and "000.txt" not in refusals(attempts.out)


def test_what_is_left_of_a_killed_copy_is_not_believed(tmp_path: Path) -> None:
    root = numbers(tmp_path, 120)
    keys = settings(features={"parse_seconds": 5})
    expected, _ = run(root, keys, reader="copy_readers:SlowNumberReader", workers=2)
    wanted = contents(expected)
    shutil.rmtree(expected)
    attempts = Attempts(root, keys, "copy_readers:SlowNumberReader")
    while len(attempts.committed()) < 20:
        assert not attempts.go(0.05)[1]
    work, done = attempts.out / ".copy", len(attempts.committed())
    shutil.copytree(work, tmp_path / "left")

    def cut(part: Path) -> None:
        part.write_bytes(part.read_bytes()[:10])

    def flip(part: Path) -> None:
        data = part.read_bytes()
        part.write_bytes(bytes([data[0] ^ 1]) + data[1:])

    def journal(part: Path) -> None:
        path = work / "journal.jsonl"
        path.write_bytes(path.read_bytes()[:-30])

    def other_code(part: Path) -> None:
        path = work / "journal.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"code": "', b'"code": "0', 1))

    for damage in (cut, flip, Path.unlink, journal, other_code):
        shutil.rmtree(attempts.out)
        shutil.copytree(tmp_path / "left", work)
        damage(min(work.glob(".*.0")))
        _, ended = attempts.go(None)
        assert ended and contents(attempts.out) == wanted, damage
        after = json.loads((attempts.out / "summary.json").read_text())["resumed_after"]
        assert (after == 0) if damage is other_code else (after < done), damage  # splits that are finished are kept


def test_two_copies_into_one_folder(tmp_path: Path) -> None:
    import fcntl

    root = numbers(tmp_path)
    index, splits = prepare(root, settings())
    work = tmp_path / "packs" / ".copy"
    work.mkdir(parents=True)
    lock = os.open(work, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    out = tmp_path / "packs"
    copy = LocalCopy(root, index, splits, settings(), Limits(), "copy_readers:NumberReader")
    with pytest.raises(DataError, match="another copy_to_local.py is writing there"):
        copy.run(out, str(out / "q"), str(out / "s"))
    os.close(lock)
    copy.run(out, str(out / "q"), str(out / "s"))


def test_writers_go_on_behind_a_mark_and_nowhere_else(tmp_path: Path) -> None:
    import numpy as np

    def add(writer, i):
        writer.add({"x": np.full(3, i, np.float32)}, {"n": np.arange(i % 4, dtype=np.int16), "id": f"é{i}"})

    with PackWriter(tmp_path / "whole.safetensors", {"a": 1}) as writer:
        for i in range(9):
            add(writer, i)
    with pytest.raises(KeyboardInterrupt), PackWriter(tmp_path / "p.safetensors", {"a": 1}, keep=True) as writer:
        for i in range(7):
            add(writer, i)
            if i == 4:
                mark = json.loads(json.dumps(writer.mark()))
        raise KeyboardInterrupt
    with PackWriter(tmp_path / "p.safetensors", {"a": 1}, keep=True) as writer:
        writer.resume(mark)
        for i in range(5, 9):
            add(writer, i)
    assert (tmp_path / "p.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.safetensors", "whole.safetensors"]
    with pytest.raises(PackError, match="No such file"):
        PackWriter(tmp_path / "p.safetensors", {"a": 1}, keep=True).resume(mark)
    file = GrowingFile(tmp_path / "f")
    file.append(b"abc")
    size, digest = file.mark()
    with pytest.raises(ValueError, match="does not hold"):
        GrowingFile(tmp_path / "f", (size + 1, digest))
