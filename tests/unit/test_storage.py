"""Mounts are found, not guessed; speed is measured."""

import os
from pathlib import Path

import pytest
import trainyard.data.storage as storage
from trainyard.data.storage import classify, describe, free_bytes, parse_mount, parse_mountinfo, probe


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
        ("fuse.unheard_of", "x", "/y", "fuse", "fuse.unheard_of"),
        ("fuseblk", "/dev/sdb1", "/mnt/usb", "local", "local disk (fuseblk)"),
        ("macfuse", "sshfs@host", "/Volumes/x", "fuse", "sshfs"),
        ("apfs", "/dev/disk3s1", "/", "local", "local disk (apfs)"),
    ],
)
def test_mounts_are_named(filesystem: str, source: str, point: str, kind: str, name: str) -> None:
    mount = classify(point, filesystem, source)
    assert (mount.kind, mount.name) == (kind, name)
    assert mount.local == (kind in ("local", "overlay", "memory"))


def test_mount_tables_are_read() -> None:
    line = r"36 35 98:0 /mnt1 /my\040data rw,noatime master:1 - fuse.sshfs mac:/a\040b rw,errors=continue"
    assert parse_mountinfo(line) == ("/my data", "fuse.sshfs", "mac:/a b")
    assert parse_mount("//u@nas/share on /Volumes/my (nas) (smbfs, nodev, nosuid)") == ("/Volumes/my (nas)", "smbfs", "//u@nas/share")
    assert parse_mount("nonsense") is None


def test_a_path_lies_on_the_deepest_mount_above_it(tmp_path: Path, monkeypatch) -> None:
    inner = tmp_path / "drive" / "MyDrive"
    inner.mkdir(parents=True)
    (tmp_path / "link").symlink_to(inner)
    mounts = [("/", "ext4", "a"), (str(tmp_path / "drive"), "fuse.drive", "drive"), (str(tmp_path / "dri"), "nfs", "n")]
    monkeypatch.setattr(storage, "_linux_mounts", lambda: mounts)
    monkeypatch.setattr(storage, "_bsd_mounts", lambda: mounts)
    assert describe(inner / "not" / "there.wav").name == "Google Drive"
    assert describe(tmp_path / "link").name == "Google Drive"
    assert describe(tmp_path / "driveway").filesystem == "ext4"


def test_this_machine_has_a_disk(tmp_path: Path) -> None:
    assert describe(tmp_path).filesystem != "unknown"
    assert free_bytes(tmp_path / "a" / "b") > 0


def test_probe_measures_what_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(3 << 20))
    speed = probe([tmp_path / "missing", tmp_path / "a"], drop=True)
    assert speed is not None and speed.files == 1 and speed.latency > 0 and speed.megabytes > 0
    assert probe([tmp_path / "missing"]) is None
