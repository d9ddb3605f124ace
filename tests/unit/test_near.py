"""Packs on a network mount, a real one of FUSE: copied once to a local disk, by one job of several, and safely."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fuse_mount
import pytest
import trainyard.data.near as near
from test_gate import SCRIPT
from test_preflight import job, packs
from trainyard.data.errors import DataError
from trainyard.data.pack import Pack

pytestmark = pytest.mark.skipif(bool(fuse_mount.can_mount()), reason=fuse_mount.can_mount() or "can mount")
LIBRARY = Path(near.__file__).parents[2]
# A job that brings packs near, says where they are, and lives until its input ends.
PROGRAM = """
import sys
import trainyard.data.near as near
near.SPARE = 0
print("near", *near.bring_near(sys.argv[1:]).values(), flush=True)
sys.stdin.read()
"""


class Mount:
    """A folder `far` served at `point`, as Google Drive shows itself in Colab."""

    def __init__(self, folder: Path, seconds: float):
        self.far, self.point, self.opened = folder / "far", folder / "drive", []
        self.opened: list[str] = []
        for path in (self.far, self.point):
            path.mkdir()
        command = [sys.executable, fuse_mount.__file__, self.point, "fuse.drive", "drive", str(seconds), self.far]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout is not None and self.server.stdout.readline() == "mounted\n"
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.server.stdout is not None
        for line in self.server.stdout:
            self.opened.append(line.removeprefix("open ").strip())

    def pack(self, size: int = 300_000, name: str = "train.safetensors") -> str:
        (self.far / name).write_bytes(os.urandom(size))
        return str(self.point / name)

    def close(self) -> None:
        fuse_mount.unmount(self.point)
        self.server.kill()
        self.server.wait(10)


@pytest.fixture
def mount(tmp_path: Path, monkeypatch) -> Iterator[Mount]:
    monkeypatch.setenv("TRAINYARD_LOCAL_DISK", str(tmp_path / "disk"))
    monkeypatch.setenv("PYTHONPATH", str(LIBRARY))
    served = Mount(tmp_path, 0.02)
    try:
        yield served
    finally:
        for handle in near._held:
            os.close(handle)
        near._held.clear()
        served.close()


def start(*paths: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def bring(path: str, said: list[str] | None = None) -> Path:
    return Path(near.bring_near([path], (said if said is not None else []).append)[path])


def copies(tmp_path: Path) -> list[Path]:
    return [p for p in (tmp_path / "disk").rglob("*") if p.is_file() and p.name != "lock"]


def test_a_pack_is_copied_once_and_a_local_one_not_at_all(mount: Mount, tmp_path: Path) -> None:
    path, said = mount.pack(20_000_000), []
    copy = bring(path, said)
    assert copy.read_bytes() == (mount.far / "train.safetensors").read_bytes() and copy.suffix == ".safetensors"
    assert copy.is_relative_to(tmp_path / "disk") and "from Google Drive" in said[0] and "verified" in said[1]
    assert bring(path, said) == copy and len(said) == 2
    assert mount.opened == ["train.safetensors"]
    assert bring(str(mount.far / "train.safetensors")) == mount.far / "train.safetensors"


def test_a_pack_that_changed_is_copied_anew(mount: Mount, tmp_path: Path) -> None:
    path = mount.pack()
    first = bring(path)
    mount.pack(400_000)
    second = bring(path)
    assert second != first and second.stat().st_size == 400_000 and copies(tmp_path) == [second]


def test_jobs_that_start_together_copy_once(mount: Mount, tmp_path: Path) -> None:
    path = mount.pack(4_000_000)
    jobs = [start(path) for _ in range(4)]
    try:
        said = [j.communicate("", timeout=60)[0] for j in jobs]
    finally:
        for process in jobs:
            process.kill()
    assert len({text.splitlines()[-1] for text in said}) == 1 and sum("copying" in text for text in said) == 1
    assert mount.opened == ["train.safetensors"] and len(copies(tmp_path)) == 1


def test_a_kill_while_copying_leaves_nothing_that_looks_like_a_pack(mount: Mount, tmp_path: Path) -> None:
    path = mount.pack(20_000_000)
    process = start(path)
    end = time.monotonic() + 60
    while not copies(tmp_path) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert [p.suffix for p in copies(tmp_path)] == [".tmp"]
    copy = bring(path)
    assert copies(tmp_path) == [copy] and copy.read_bytes() == (mount.far / "train.safetensors").read_bytes()


def test_a_disk_without_room_is_said_and_unused_copies_go_first(mount: Mount, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "disk").mkdir()
    assert fuse_mount.libc.mount(b"tmpfs", os.fsencode(tmp_path / "disk"), b"tmpfs", 0, b"size=3m") == 0
    try:
        monkeypatch.setattr(near, "SPARE", 0)
        one, two, three = (mount.pack(2_000_000, f"{n}.safetensors") for n in ("one", "two", "three"))
        holder = start(one)
        try:
            assert holder.stdout is not None
            while not (line := holder.stdout.readline()).startswith("near"):
                assert line
            assert Path(line.split()[1]).is_relative_to(tmp_path / "disk")
            said: list[str] = []
            assert str(bring(two, said)) == two and "lacks 0.9 MB" in said[0] and "Google Drive" in said[0]
        finally:
            holder.communicate("", timeout=30)
        assert bring(three).is_relative_to(tmp_path / "disk")  # the copy that nobody uses any longer made room
        assert [p.name.split("-")[-1] for p in copies(tmp_path)] == ["three.safetensors"]
        # What statvfs promises may still not be there.
        monkeypatch.setattr(near, "free_bytes", lambda path: 1 << 40)
        said.clear()
        assert str(bring(two, said)) == two and "lacks" in said[-1] and len(copies(tmp_path)) == 1
    finally:
        for handle in near._held:
            os.close(handle)
        near._held.clear()
        fuse_mount.unmount(tmp_path / "disk")


def test_a_mount_that_is_gone_and_a_folder_of_somebody_else(mount: Mount, tmp_path: Path) -> None:
    path = mount.pack()
    folder = tmp_path / "disk" / f"trainyard-packs-{os.getuid()}"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(DataError, match="only you can write to"):
        bring(path)
    folder.chmod(0o700)
    mount.server.kill()
    mount.server.wait(10)
    with pytest.raises(DataError, match="Google Drive .* does not answer.*mount it again"):
        bring(path)


def test_a_training_reads_its_packs_from_the_copies(mount: Mount, tmp_path: Path) -> None:
    files = packs(mount.far)
    far = {split: str(mount.point / Path(path).name) for split, path in files.items()}
    settings = json.dumps({**job(), "schedule_epochs": job()["epochs"]})
    given = [word for split, path in far.items() for word in (f"--{split}", path)]
    places = ["--checkpoints", tmp_path / "checkpoints", "--output", tmp_path / "out"]
    command = [sys.executable, SCRIPT, "--settings", settings, *given, *places]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("copied and verified") == 3 and (tmp_path / "out" / "model.safetensors").exists()
    assert sorted(mount.opened) == sorted(Path(path).name for path in files.values())
    assert len(Pack(files["train"])) > 0
