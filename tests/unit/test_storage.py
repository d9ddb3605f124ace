"""Mounts are found, not guessed; speed is measured."""

import errno
import os
import sys
from pathlib import Path

import pytest
import trainyard.data.mounts as mounts
from trainyard.data.mounts import classify, describe, parse_mount, parse_mountinfo
from trainyard.data.storage import free_bytes, probe, read_threads, reads_for


@pytest.mark.parametrize(
    ("filesystem", "source", "point", "kind", "name"),
    [
        ("ext4", "/dev/vda1", "/", "local", "local disk (ext4)"),
        ("overlay", "overlay", "/", "overlay", "container disk"),
        ("tmpfs", "tmpfs", "/tmp", "memory", "memory disk"),
        ("nfs4", "server:/data", "/data", "network", "NFS"),
        ("fuse.sshfs", "mac:/Volumes/sbdrive", "/data/datasets", "network", "sshfs"),
        ("fuse.drive", "drive", "/content/drive", "network", "Google Drive"),
        ("fuse", "drive", "/content/drive", "fuse", "Google Drive"),
        ("fuse.unheard_of", "x", "/y", "fuse", "FUSE mount of type fuse.unheard_of"),
        ("fuse", "mountpoint-s3", "/data", "fuse", "S3 over FUSE"),
        ("fuse.s3fs", "s3fs", "/data", "network", "S3 (s3fs)"),
        ("fuse.rclone", "gdrive:music", "/data", "network", "rclone mount"),
        ("fuse", "Passthrough", "/content/drive", "fuse", "FUSE mount"),
        ("cifs", "//nas/share", "/data", "network", "SMB"),
        ("9p", "C:\\", "/mnt/c", "network", "9P (shared with a host)"),
        ("dfsfuse_DFS", "drivefs", "/Volumes/GoogleDrive", "network", "Google Drive"),
        ("nfs", "fuse-t:/sshfs", "/Volumes/x", "fuse", "sshfs"),
        ("fuseblk", "/dev/sdb1", "/mnt/usb", "local", "local disk (fuseblk)"),
        ("macfuse", "sshfs@host", "/Volumes/x", "fuse", "sshfs"),
        ("macfuse", "mac:/Volumes/sbdrive", "/data", "fuse", "FUSE mount"),
        ("apfs", "/dev/disk3s1", "/", "local", "local disk (apfs)"),
    ],
)
def test_mounts_are_named(filesystem: str, source: str, point: str, kind: str, name: str) -> None:
    mount = classify(point, filesystem, source)
    assert (mount.kind, mount.name) == (kind, name)
    assert mount.local == (kind in ("local", "overlay", "memory"))


def test_where_a_mount_comes_from_is_told_without_the_user() -> None:
    assert classify("/d", "fuse.sshfs", "ann@mac:/Volumes/x").words == "sshfs (mac:/Volumes/x)"
    assert classify("/d", "cifs", "//ann:secret@nas/share").words == "SMB (//nas/share)"
    assert classify("/", "ext4", "/dev/vda").words == "local disk (ext4)"


def test_mount_tables_are_read() -> None:
    line = r"36 35 98:0 /mnt1 /my\040data\043 rw,noatime master:1 - fuse.sshfs mac:/a\040b rw,errors=continue"
    assert parse_mountinfo(line) == (36, "/my data#", "fuse.sshfs", "mac:/a b")
    assert parse_mount("//u@nas/share on /Volumes/my (nas) (smbfs, nodev, nosuid)") == ("/Volumes/my (nas)", "smbfs", "//u@nas/share")
    assert parse_mount("nonsense") is None


def test_a_path_lies_on_the_deepest_and_latest_mount_above_it(tmp_path: Path, monkeypatch) -> None:
    inner = tmp_path / "drive" / "MyDrive"
    inner.mkdir(parents=True)
    (tmp_path / "link").symlink_to(inner)
    drive = str(tmp_path / "drive")
    table = [("/", "ext4", "a"), (drive, "ext4", "below"), (drive, "fuse.drive", "drive"), (str(tmp_path / "dri"), "nfs", "n")]
    monkeypatch.setattr(mounts, "_by_number", lambda path: None)
    monkeypatch.setattr(mounts, "_linux_mounts", lambda: [(i, *row) for i, row in enumerate(table)])
    monkeypatch.setattr(mounts, "_bsd_mounts", lambda: table)
    assert describe(inner / "not" / "there.wav").name == "Google Drive"
    assert describe(tmp_path / "link").name == "Google Drive"
    assert describe(tmp_path / "driveway").filesystem == "ext4"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts have numbers on Linux only")
def test_the_kernels_number_and_the_table_agree(tmp_path: Path) -> None:
    for path in ("/", "/proc", "/dev/shm", str(tmp_path)):
        if os.path.exists(path):
            assert mounts._by_number(path) == mounts._by_prefix(path, [row[1:] for row in mounts._linux_mounts()]), path


def test_a_mount_that_does_not_answer_is_not_taken_for_the_disk_below_it(tmp_path: Path, monkeypatch) -> None:
    gone = str(tmp_path / "drive")
    stat = os.stat

    def lost(path, *args, **keys):
        if str(path).startswith(gone):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return stat(path, *args, **keys)

    table = [("/", "ext4", "a"), (gone, "fuse.sshfs", "mac:/data")]
    monkeypatch.setattr(mounts, "_by_number", lambda path: None)
    monkeypatch.setattr(mounts, "_linux_mounts", lambda: [(i, *row) for i, row in enumerate(table)])
    monkeypatch.setattr(mounts, "_bsd_mounts", lambda: table)
    monkeypatch.setattr(mounts.os, "stat", lost)
    found = describe(f"{gone}/a/b.wav")
    assert (found.name, found.trouble) == ("sshfs", "Transport endpoint is not connected")


def test_this_machine_has_a_disk(tmp_path: Path) -> None:
    assert describe(tmp_path).filesystem != "unknown"
    assert free_bytes(tmp_path / "a" / "b") > 0


def test_probe_measures_what_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(3 << 20))
    (tmp_path / "empty").touch()
    (tmp_path / "small").write_bytes(b"x" * 1000)
    speed = probe([tmp_path / "missing", tmp_path / "a", tmp_path / "empty", tmp_path / "small"])
    assert speed is not None and speed.files == 3 and speed.latency > 0 and speed.megabytes > 0
    assert probe([tmp_path / "missing"]) is None


def test_more_reads_are_kept_in_flight_where_each_takes_longer(tmp_path: Path) -> None:
    assert [reads_for(s) for s in (0.0001, 0.030, 0.2, 4.0)] == [8, 60, 128, 128]
    assert 2 <= read_threads(tmp_path) <= 8
