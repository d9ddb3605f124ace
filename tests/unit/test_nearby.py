"""Packs on a network are copied to this machine's disk: a real FUSE mount, as Google Drive shows itself in Colab."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fuse_mount
import pytest
from trainyard.data import nearby
from trainyard.data.mounts import describe

SIZE = 20000
pytestmark = pytest.mark.skipif(bool(fuse_mount.can_mount()), reason=fuse_mount.can_mount() or "can mount")


@pytest.fixture(scope="module")
def far(tmp_path_factory) -> Iterator[Path]:
    point = tmp_path_factory.mktemp("drive")
    command = [sys.executable, fuse_mount.__file__, str(point), "fuse.drive", "drive", "0.001", "3", str(SIZE)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None and server.stdout.readline() == "mounted\n"
        yield point
    finally:
        fuse_mount.unmount(point)
        server.kill()
        server.communicate()


@pytest.fixture
def disk(tmp_path, monkeypatch) -> Path:
    """Named with a variable in it, as in a profile that serves all users."""
    monkeypatch.setenv("WHO", "me")
    monkeypatch.setenv(nearby.FOLDER, f"{tmp_path}/scratch/$WHO")
    return tmp_path / "scratch/me" / f"trainyard-{os.getuid()}"


def copies(disk: Path) -> list[Path]:
    return sorted(p for p in disk.iterdir() if p.suffix != ".lock")


def test_a_far_pack_is_copied_once_and_a_local_one_never(far, disk, tmp_path):
    local, said = tmp_path / "local.bin", []
    local.write_bytes(b"x")
    packs = {"train": str(far / "0.bin"), "validation": str(far / "0.bin"), "test": str(local)}
    near = nearby.nearby(packs, say=said.append)
    assert near["train"] == near["validation"] != packs["train"] and near["test"] == str(local)
    assert Path(near["train"]).read_bytes() == (far / "0.bin").read_bytes() and describe(near["train"]).local
    assert len(copies(disk)) == 1 and len(said) == 1 and "Google Drive" in said[0]
    inode = os.stat(near["train"]).st_ino
    assert nearby.nearby(packs, say=said.append) == near and os.stat(near["train"]).st_ino == inode and len(said) == 1


def test_without_a_folder_nothing_is_copied_and_slurm_s_own_is_taken(far, tmp_path, monkeypatch):
    packs = {"train": str(far / "0.bin")}
    monkeypatch.delenv(nearby.FOLDER, raising=False)
    monkeypatch.delenv("SLURM_TMPDIR", raising=False)
    assert nearby.nearby(packs) == packs
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path / "job"))
    assert nearby.nearby(packs)["train"].startswith(str(tmp_path / "job"))


def test_half_a_copy_is_made_again(far, disk):
    packs = {"train": str(far / "1.bin")}
    copy = Path(nearby.nearby(packs)["train"])
    copy.write_bytes(copy.read_bytes()[:100])
    assert Path(nearby.nearby(packs)["train"]).read_bytes() == (far / "1.bin").read_bytes()


def test_without_room_or_when_asked_to_stop_it_is_read_where_it_lies(far, disk, monkeypatch):
    packs, said = {"train": str(far / "0.bin")}, []
    monkeypatch.setattr(nearby, "free_bytes", lambda _: SIZE - 1)
    assert nearby.nearby(packs, say=said.append) == packs and "GB free" in said[0]
    monkeypatch.undo()
    monkeypatch.setenv(nearby.FOLDER, str(disk))
    assert nearby.nearby(packs, stop=lambda: True) == packs
    assert not [p for p in disk.rglob("*") if p.is_file() and p.suffix != ".lock"], "nothing half-written stays"


def test_a_folder_that_cannot_be_written_or_is_far_itself_is_said(far, disk, tmp_path, monkeypatch):
    packs, said = {"train": str(far / "0.bin")}, []
    (tmp_path / "file").touch()
    monkeypatch.setenv(nearby.FOLDER, str(tmp_path / "file"))
    assert nearby.nearby(packs, say=said.append) == packs and "no copy in" in said[0]


def test_copies_that_nobody_used_for_long_make_room(far, disk):
    old = Path(nearby.nearby({"train": str(far / "0.bin")})["train"])
    os.utime(old, (time.time() - nearby.KEEP - 10,) * 2)
    new = Path(nearby.nearby({"train": str(far / "2.bin")})["train"])
    assert copies(disk) == [new]
