"""A slow network mount that is real: a FUSE mount as Google Drive shows itself in Colab, 30 ms an open and 30 ms a read."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fuse_mount
import pytest
from trainyard.data.mounts import describe
from trainyard.data.storage import probe, read_threads, reads_for
from trainyard.train.storage_checks import check_mounts, check_sources

DELAY, FILES = 0.03, 6
pytestmark = pytest.mark.skipif(bool(fuse_mount.can_mount()), reason=fuse_mount.can_mount() or "can mount")


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen]]:
    point = tmp_path / "drive"
    point.mkdir()
    command = [sys.executable, fuse_mount.__file__, str(point), "fuse.drive", "drive", str(DELAY), str(FILES), "20000"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None and server.stdout.readline() == "mounted\n"
        yield point, server
    finally:
        fuse_mount.unmount(point)
        server.kill()
        server.communicate()


def test_the_mount_is_found_and_its_latency_measured(drive) -> None:
    point, _ = drive
    mount = describe(point / "0.bin")
    assert (mount.filesystem, mount.name, mount.local) == ("fuse.drive", "Google Drive", False)
    assert describe(point / "not" / "there.bin").name == "Google Drive" and describe(point.parent).local
    speed = probe([point / f"{i}.bin" for i in range(FILES)])
    assert speed is not None and speed.latency >= 2 * DELAY and speed.files == FILES
    assert read_threads(point) == 64 and reads_for(speed.latency) >= 100


def test_preflight_names_it(drive, tmp_path: Path) -> None:
    point, _ = drive
    (found,) = check_sources(str(point), [f"{i}.bin" for i in range(FILES)])
    assert found.verdict == "ok" and "Google Drive" in found.value and "reads in flight" in found.value
    storage, checkpoints = check_mounts({"train": str(point / "0.bin")}, tmp_path)
    assert storage.verdict == "warn" and storage.value == "Google Drive (drive)" and checkpoints.verdict == "ok"
    assert check_mounts({"train": str(tmp_path / "x")}, str(point / "checkpoints"))[1].verdict == "warn"


def test_a_mount_whose_server_is_gone(drive, tmp_path: Path) -> None:
    point, server = drive
    server.kill()
    server.wait()
    mount = describe(point / "0.bin")
    assert mount.name == "Google Drive" and "not connected" in mount.trouble
    (storage, _), (sources,) = check_mounts({"train": str(point / "0.bin")}, tmp_path), check_sources(str(point), ["0.bin"])
    assert storage.verdict == "fail" and "mount it again" in storage.advice
    assert sources.verdict == "warn" and "does not answer" in sources.value
