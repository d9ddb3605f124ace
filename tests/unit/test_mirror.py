"""Raw copies: killed at random they go on without reading again what is verified; a full disk is said; nothing half-written stays."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fuse_mount
import pytest
from trainyard.data.errors import DataError
from trainyard.data.mirror import mirror

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "copy_to_local.py"
# The command, with a source that takes its time and tells which files are opened.
PROGRAM = """
import os, runpy, sys, time
from trainyard.data.sources import SourceFolder
log, stream = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT), SourceFolder._stream
def slow(self, path, take):
    os.write(log, (os.path.relpath(path, self.base) + "\\n").encode(errors="surrogateescape"))
    time.sleep(0.01)
    return stream(self, path, take)
SourceFolder._stream = slow
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
KILLS = 10


def make_source(folder: Path, files: int) -> Path:
    source = folder / "My Drive"
    dice = random.Random(5)
    for i in range(files):
        path = source / f"d{i % 7}" / f"{i:04d} sound.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.randrange(1, 30_000)))
    return source


def tree(folder: Path) -> dict[str, bytes]:
    own = ("copied.jsonl", "quarantine.csv")
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in own}


def recorded(local: Path) -> set[str]:
    try:
        lines = (local / "copied.jsonl").read_bytes().split(b"\n")[:-1]
        return {json.loads(line)["path"] for line in lines if b'"path"' in line}
    except OSError:
        return set()


def test_ten_kills_and_the_same_bytes_and_nothing_verified_is_read_again(tmp_path: Path) -> None:
    source, local, log = make_source(tmp_path, 600), tmp_path / "local", tmp_path / "opened"
    command = [sys.executable, "-c", PROGRAM, log, SCRIPT, "--source", source, "--local-root", local, "--reads", "3"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    dice, progress = random.Random(6), []
    for kill in range(KILLS + 1):
        log.unlink(missing_ok=True)
        known = recorded(local)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            if kill < KILLS:
                end = time.monotonic() + 60
                while process.poll() is None and not (log.exists() and log.stat().st_size) and time.monotonic() < end:
                    time.sleep(0.005)
                time.sleep(0.15 * dice.random())
                process.send_signal(signal.SIGKILL)
            text = process.communicate(timeout=120)[0].decode()
        finally:
            process.kill()
        assert not known & set(log.read_text().splitlines()), "read again"
        progress.append(len(recorded(local)))
        assert process.returncode == (-signal.SIGKILL if kill < KILLS else 0), text
    assert progress == sorted(progress) and 0 < progress[KILLS - 1] < 600 == progress[-1]
    assert tree(local) == tree(source)


def test_a_full_disk_is_said_and_the_copy_goes_on_where_there_is_room(tmp_path: Path, monkeypatch) -> None:
    if why := fuse_mount.can_mount():
        pytest.skip(why)
    source, local = make_source(tmp_path, 120), tmp_path / "local"
    local.mkdir()
    with pytest.raises(DataError, match=r"needs \d\.\d MB more, 1 kB are free: \d\.\d MB are missing; make room, or copy a --subset"):
        monkeypatch.setattr("trainyard.data.mirror.free_bytes", lambda path: 1000)
        mirror(source, local, [], None, 0, 4, 1 << 20)
    monkeypatch.setattr("trainyard.data.mirror.free_bytes", lambda path: 1 << 40)
    assert fuse_mount.libc.mount(b"tmpfs", os.fsencode(local), b"tmpfs", 0, b"size=1m") == 0
    try:
        with pytest.raises(DataError, match=r"the disk is full after [\d.]+ [kM]B; make room and run again"):
            mirror(source, local, [], None, 0, 4, 1 << 20)
        assert not (local / ".copying").exists() and recorded(local)
        saved = tmp_path / "saved"
        shutil.copytree(local, saved, copy_function=shutil.copy2)
    finally:
        fuse_mount.unmount(local)
    result = mirror(source, saved, [], None, 0, 4, 1 << 20)
    assert result["kept"] > 10 and result["copied"] + result["kept"] == 120 and result["refused"] == 0 and tree(saved) == tree(source)


def test_copies_that_may_not_have_reached_the_disk_are_compared_with_their_hashes(tmp_path: Path, monkeypatch) -> None:
    source, local = make_source(tmp_path, 40), tmp_path / "local"

    def power_cut(folders) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr("trainyard.data.mirror.sync_folders", power_cut)
        mirror(source, local, [], None, 0, 4, 1 << 20)
    names = sorted(recorded(local))
    assert len(names) == 40
    lost = local / names[7]
    there = lost.stat()
    lost.write_bytes(bytes(there.st_size))  # its length came to the disk, its bytes did not
    result = mirror(source, local, [], None, 0, 4, 1 << 20)
    assert (result["copied"], result["kept"]) == (1, 39) and tree(local) == tree(source)
    lost.write_bytes(bytes(there.st_size))  # what was on the disk and is spoiled since by others is not looked for
    assert mirror(source, local, [], None, 0, 4, 1 << 20)["kept"] == 40


def test_the_longest_names_and_odd_ones_are_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in (b"x" * 251 + b".wav", b"new\nline.wav", b"latin\xe4.wav", b"-rf", b"'q\".wav"):
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(name)
    result = mirror(source, tmp_path / "local", [], None, 0, 4, 1 << 20)
    assert result["copied"] == 5 and tree(tmp_path / "local") == tree(source)


def test_what_cannot_be_copied_is_listed_and_the_rest_goes_on(tmp_path: Path, monkeypatch) -> None:
    source = make_source(tmp_path, 6)
    (source / "empty").touch()
    (source / "out").symlink_to("/etc/hostname")
    os.mkfifo(source / "pipe")
    (source / "big").write_bytes(bytes(1 << 20))
    result = mirror(source, tmp_path / "local", [], None, 0, 4, 1 << 19)
    listed = (tmp_path / "local" / "quarantine.csv").read_text()
    assert result["copied"] == 6 and result["refused"] == 4
    for words in ("empty file", "link out of the root", "not a regular file", "more than the"):
        assert words in listed


@pytest.mark.parametrize("lie", ["changed", "short"])
def test_a_disk_that_gives_back_other_bytes_is_found(tmp_path: Path, monkeypatch, lie: str) -> None:
    (tmp_path / "far").mkdir()
    for name in ("a.bin", "b.bin"):
        (tmp_path / "far" / name).write_bytes(name.encode() * 200_000)  # several blocks
    real = os.preadv

    def preadv(file: int, buffers, at: int) -> int:
        count = real(file, buffers, at)
        if at == 0 or b"b.b" not in bytes(buffers[0][:8]):
            return count
        if lie == "short":
            return 0
        buffers[0][count // 2] ^= 1
        return count

    monkeypatch.setattr(os, "preadv", preadv)
    result = mirror(tmp_path / "far", tmp_path / "near", [], None, 0, 2, 1 << 30)
    assert (result["copied"], result["refused"]) == (1, 1)
    assert "b.bin,the copy differs from what was read" in (tmp_path / "near" / "quarantine.csv").read_text()
    assert (tmp_path / "near" / "a.bin").read_bytes() == (tmp_path / "far" / "a.bin").read_bytes()
    assert not (tmp_path / "near" / "b.bin").exists()


def test_rewritten_paths_hold_wherever_they_are_read_from(tmp_path: Path) -> None:
    make_source(tmp_path, 3)
    (tmp_path / "My Drive" / "rows.jsonl").write_text(json.dumps({"audio": "/content/drive/My Drive/d1/0001 sound.wav"}) + "\n")
    command = [sys.executable, SCRIPT, "--source", "My Drive", "--local-root", "local", "--annotations", "rows.jsonl"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    row = json.loads((tmp_path / "local" / "rows.jsonl").read_text())
    assert row == {"audio": str(tmp_path / "local" / "d1" / "0001 sound.wav")} and Path(row["audio"]).is_file()
