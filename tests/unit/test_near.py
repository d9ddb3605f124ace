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
import numpy as np
import pytest
import trainyard.data.near as near
from test_gate import SCRIPT
from test_preflight import job, packs
from trainyard.data.errors import DataError
from trainyard.data.pack import Pack, PackWriter

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


def test_a_place_that_cannot_be_written_to_is_said_and_the_pack_read_where_it_lies(mount: Mount, monkeypatch) -> None:
    monkeypatch.setenv("TRAINYARD_LOCAL_DISK", "/proc/no such place")
    said: list[str] = []
    path = mount.pack()
    assert str(bring(path, said)) == path and "/proc/no such place cannot be written to" in said[0]


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


def far_packs(mount: Mount, files: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Packs of the far folder as they are seen at the mount, and the words of a command that reads them."""
    far = {split: str(mount.point / Path(path).name) for split, path in files.items()}
    return far, [word for split, path in far.items() for word in (f"--{split}", path)]


def command(script: str, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT.with_name(script), *words], capture_output=True, text=True, timeout=300)


def test_a_training_reads_its_packs_from_the_copies(mount: Mount, tmp_path: Path) -> None:
    files = packs(mount.far)
    _, given = far_packs(mount, files)
    settings = json.dumps({**job(), "schedule_epochs": job()["epochs"]})
    places = ["--checkpoints", tmp_path / "checkpoints", "--output", tmp_path / "out"]
    done = command("train_model.py", "--settings", settings, *given, *places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("copied and verified") == 3 and (tmp_path / "out" / "model.safetensors").exists()
    assert sorted(mount.opened) == sorted(Path(path).name for path in files.values())
    assert len(Pack(files["train"])) > 0


def test_a_preflight_looks_at_the_copies_names_the_mount_and_leaves_them_to_the_training(mount: Mount, tmp_path: Path) -> None:
    files = packs(mount.far)
    far, given = far_packs(mount, files)
    report = tmp_path / "preflight.json"
    done = command("preflight_check.py", "--settings", json.dumps(job()), *given, "--checkpoints", tmp_path, "--output", report)
    assert done.returncode == 0 and done.stdout.count("copied and verified") == 3, done.stdout + done.stderr
    checks = {c["check"]: c for c in json.loads(report.read_text())["checks"]}
    assert checks["storage"]["verdict"] == "warn" and checks["storage"]["value"] == "Google Drive (drive)"
    assert checks["mount"]["value"].startswith("Google Drive (drive); ") and float(checks["mount"]["value"].split()[3]) >= 20  # ms
    assert checks["read"]["verdict"] == "ok" and float(checks["read"]["value"].split()[0]) < 20
    opened = len(mount.opened)
    assert set(bring_all(far)) == {str(p) for p in copies(tmp_path)} and len(mount.opened) == opened
    mount.server.kill()
    mount.server.wait(10)
    done = command("preflight_check.py", "--settings", json.dumps(job()), *given, "--checkpoints", tmp_path, "--output", report)
    found = json.loads(report.read_text())
    assert done.returncode == 0 and found["verdict"] == "fail", done.stdout + done.stderr
    assert any("does not answer" in c["value"] and "mount it again" in c["advice"] for c in found["checks"])


def bring_all(far: dict[str, str]) -> list[str]:
    return list(near.bring_near(far.values(), lambda text: pytest.fail(text)).values())


def test_attention_is_mapped_from_the_copies(mount: Mount, tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from trainyard.config.architectures import ARCHITECTURES
    from trainyard.models.registry import architecture

    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        with PackWriter(mount.far / f"{split}.safetensors", {"format": "video", "classes": ["a", "b"]}) as writer:
            for i in range(6):
                video = rng.integers(0, 256, (1, 4, 3, 16, 16), dtype=np.uint8)
                fixed = {"video": video, "positions": np.zeros((5, 3), np.float32), "label": np.int64(i % 2)}
                writer.add(fixed, {"id": f"{split}{i}", "group": f"{split}{i}"})
    options = ARCHITECTURES["transformer"].options(feature_dim=16, width=4)
    model = architecture("transformer").from_pack(options, Pack(mount.far / "train.safetensors"), np.arange(6), {})
    save_file({k: v.contiguous() for k, v in model.trainable_state().items()}, tmp_path / "model.safetensors")
    settings = {**job(), "architecture": "transformer", "format": "video", "options": options.model_dump(mode="json")}
    words = ["--model", tmp_path / "model.safetensors", "--output", tmp_path / "maps.safetensors"]
    given = [w for split in ("train", "test") for w in (f"--{split}", mount.point / f"{split}.safetensors")]
    done = command("map_attention.py", "--settings", json.dumps(settings), *words, *given)
    assert done.returncode == 0 and "attention of 2 samples" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("copied and verified") == 2 and sorted(mount.opened) == ["test.safetensors", "train.safetensors"]


def test_a_base_model_is_built_from_the_copies(mount: Mount, tmp_path: Path) -> None:
    for name, rows in (("train", range(60)), ("validation", range(60, 70))):
        lines = [json.dumps({"id": str(i), "group": str(i), "prompt": f"count {i} words", "answer": f"there are {i} words"}) for i in rows]
        (mount.far / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    words = ["--settings", '{"steps": 2, "width": 32, "layers": 1, "heads": 2, "vocabulary": 300}', "--output", tmp_path / "base"]
    given = [w for split in ("train", "validation") for w in (f"--{split}", mount.point / f"{split}.jsonl")]
    done = command("build_base_model.py", *words, *given)
    assert done.returncode == 0 and (tmp_path / "base" / "model.safetensors").is_file(), done.stdout + done.stderr
    assert done.stdout.count("copied and verified") == 2 and sorted(mount.opened) == ["train.jsonl", "validation.jsonl"]
