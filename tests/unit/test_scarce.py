"""A training that lacks something: memory, disk, a folder it may write to, locks; each time a clear word, and nothing lost."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_run import SmallRun, killed_training
from trainyard.train import checkpoint, memory
from trainyard.train.attempts import attempt
from trainyard.train.checkpoint import CheckpointStore, Snapshot
from trainyard.train.memory import MemoryLadder, OutOfMemory, is_out_of_memory
from trainyard.train.stopping import StartAnew

CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit is enforced by Linux alone")


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> dict[str, str]:
    return killed_training.make_packs(tmp_path_factory.mktemp("packs"))


def snapshot(step: int, values: int = 3) -> Snapshot:
    return Snapshot({"model.w": torch.full((values,), float(step))}, {"step": step})


# ---- memory ---------------------------------------------------------------------------------------------------------
CAPPED = """
import numpy as np, torch
from trainyard.train.memory import hold_to, is_out_of_memory
torch.ones(10)
assert hold_to(500) is not None
kept = torch.ones(20 << 20)  # 80 MB fit
for make in (lambda: torch.ones(200 << 20), lambda: np.ones(100 << 20), lambda: bytearray(800 << 20)):
    try:
        make()
    except (RuntimeError, MemoryError) as error:
        assert is_out_of_memory(error), error
        print("refused")
torch.ones(20 << 20)
print("lives")
"""


@linux
def test_beyond_the_cap_an_allocation_fails_and_the_process_lives():
    done = subprocess.run([sys.executable, "-c", CAPPED], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["refused"] * 3 + ["lives"], done.stdout + done.stderr


LADDER = """
import json, pathlib, re, sys
import torch
from toy import JOB, ToyModel, toy_view
from trainyard.train.checkpoint import CheckpointStore
from trainyard.train.device import set_up
from trainyard.train.loop import Trainer
from trainyard.train.memory import hold_to
from trainyard.train.progress import Heartbeat
from trainyard.train.stopping import StopFlag

class Wide(ToyModel):
    def losses(self, batch):
        wide = torch.ones(len(batch["x"]), 2 << 20) * batch["x"][:, :1]  # 8 MB a sample, twice
        return super().losses(batch) + 0 * wide[:, 0]

def train(folder, name):
    set_up(torch.device("cpu"), 1, 0)
    job, view, store = {**JOB, "batch_size": 16, "epochs": 2}, toy_view(folder, 24), CheckpointStore(folder / name)
    trainer = Trainer(Wide(), view, view, job, torch.device("cpu"), store, Heartbeat(folder / "p.json"), StopFlag())
    trainer.run()
    return trainer

folder = pathlib.Path(sys.argv[1])
free = train(folder, "free")
own = int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) >> 10
assert hold_to(own + 110) is not None
held = train(folder, "held")
assert not free.ladder.rungs
print(json.dumps(held.ladder.rungs))
for a, b in zip(free.model.state_dict().values(), held.model.state_dict().values()):
    assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
for a, b in zip(free.state.history, held.state.history):
    assert abs(a["validation_loss"] - b["validation_loss"]) < 1e-5
"""


@linux
def test_a_real_cap_halves_the_micro_batch_for_the_same_result(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LADDER, str(tmp_path)], capture_output=True, text=True, timeout=300, cwd=Path(__file__).parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rungs = json.loads(done.stdout.splitlines()[-1])
    assert {r["kind"] for r in rungs} == {"training", "evaluation"} and min(r["size"] for r in rungs) < 8
    assert "going on with micro-batches of 8, same effective batch" in done.stdout


def test_a_cap_below_what_the_program_takes_is_said_at_the_start(packs, tmp_path):
    done = SmallRun(packs, tmp_path / "run").call("--memory-mb", "40")
    assert done.returncode == 1 and "error: mem_mb: 40 MB are less than the " in done.stderr and "cap_memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_each_kind_of_out_of_memory_is_known_and_nothing_else():
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory (MPS allocated…)"),
                  RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
                  OSError(errno.ENOMEM, "Cannot allocate memory")):  # fmt: skip
        assert is_out_of_memory(error), error
    for other in (RuntimeError("shape mismatch"), RuntimeError("could not create a primitive"), ValueError("out of memory"), KeyError("x")):
        assert not is_out_of_memory(other), other


def test_after_onednn_ran_out_of_memory_a_new_process_goes_on_with_half_the_size(tmp_path, monkeypatch):
    path, said = tmp_path / "memory.json", []

    def work(size: int):
        raise RuntimeError("could not create a primitive")

    with pytest.raises(RuntimeError, match="primitive"):
        MemoryLadder(16, path, CPU, said.append).fit("training", 3, work)
    monkeypatch.setattr(memory, "_held", lambda: True)
    monkeypatch.setattr(memory, "let_go", lambda: said.append("let go"))
    with pytest.raises(StartAnew, match="oneDNN"), attempt(tmp_path, "a call"):
        MemoryLadder(16, path, CPU, said.append).fit("training", 3, work)
    assert said == ["out of memory at step 3: going on with micro-batches of 8, same effective batch", "let go"]
    with attempt(tmp_path, "a call"):  # the same attempt, not a second one without progress
        assert MemoryLadder(16, path, CPU, said.append).fit("training", 3, lambda size: size) == 8


def test_the_size_that_worked_is_remembered_from_its_step_on(tmp_path):
    path, said = tmp_path / "memory.json", []
    ladder = MemoryLadder(16, path, CPU, said.append)

    def fits(most: int):
        def work(size: int) -> int:
            if size > most:
                raise RuntimeError("CUDA out of memory")
            return size

        return work

    assert ladder.fit("training", 7, fits(5)) == 4
    again = MemoryLadder(16, path, CPU, said.append)
    assert [again.size("training", step) for step in (0, 6, 7, 100)] == [16, 16, 4, 4] and again.size("evaluation", 100) == 32
    assert [line for line in said if "micro-batches of 8" in line or "micro-batches of 4" in line] == said and len(said) == 2
    with pytest.raises(OutOfMemory, match=r"gradient_checkpointing.*subset_size"):
        again.fit("training", 8, fits(0))
    path.write_text('[{"kind": "training", "step": 1, "size": 0}]')
    assert MemoryLadder(16, path, CPU).size("training", 9) == 16, "a broken file costs only finding it again"


# ---- disk -----------------------------------------------------------------------------------------------------------
def small_files(limit: int):
    def before() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return before


def test_a_full_disk_stops_with_that_word_and_the_earlier_checkpoint_is_gone_on_from(packs, tmp_path):
    whole, run = SmallRun(packs, tmp_path / "whole"), SmallRun(packs, tmp_path / "run")
    assert whole.call().returncode == 0
    process = SmallRun(packs, tmp_path / "run", epochs=12).start(preexec_fn=small_files(9000))
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in said
    assert "cannot be saved" in said and "File too large" in said and "run again" in said, said
    assert not list((tmp_path / "run").rglob("*.tmp")), "nothing half-written stays"
    assert run.call().returncode == 0
    assert run.results() == whole.results()


def test_what_was_saved_before_stays_when_a_save_fails(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(1, snapshot(1), None)
    store.save(2, snapshot(2), None)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("header_bytes", "write_json", "_sync_folder"):  # before the file, after it, after the manifest
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, name, full)
            with pytest.raises(OSError, match=r"step 3 cannot be saved: No space left.*MB free\).*step 2 is intact.*checkpoint\.keep"):
                store.save(3, snapshot(3), None)
        found, _ = CheckpointStore(tmp_path).latest()
        assert found.state["step"] in ((2, 3) if name == "_sync_folder" else (2,))
    store.save(4, snapshot(4), None)
    assert store.latest()[0].state == {"step": 4}


def test_a_folder_that_cannot_be_written_is_one_line(packs, tmp_path):
    run = SmallRun(packs, tmp_path / "run")
    (tmp_path / "run" / "checkpoints").write_text("a file where the folder should be")
    done = run.call()
    assert done.returncode == 1 and done.stderr.startswith("error: ") and str(tmp_path / "run" / "checkpoints") in done.stderr
    assert done.stderr.count("\n") == 1


# ---- locks, fingerprints --------------------------------------------------------------------------------------------
def test_two_trainers_never_share_a_checkpoint_folder(packs, tmp_path):
    run = SmallRun(packs, tmp_path / "run", epochs=3000)
    first = run.start()
    try:
        pid = run.wait_past(2)["pid"]
        store = CheckpointStore(next((tmp_path / "run" / "checkpoints").glob("*/")))
        with pytest.raises(RuntimeError, match=rf"another training of the same run is using these checkpoints \(pid {pid} on "):
            store.lock()
    finally:
        first.kill()
        first.communicate()
    store.lock()  # the kernel let go of it


def test_a_filesystem_without_locks_is_refused_not_trusted(tmp_path, monkeypatch):
    def without(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(RuntimeError, match=r"no file locks \(No locks available\).*another filesystem"):
        CheckpointStore(tmp_path).lock()


def test_a_checkpoint_of_another_fingerprint_is_never_taken(tmp_path):
    ours, theirs = CheckpointStore(tmp_path / "ours"), CheckpointStore(tmp_path / "theirs")
    theirs.save(5, snapshot(5), None)
    for file in (tmp_path / "theirs").iterdir():
        os.link(file, tmp_path / "ours" / file.name)
    said: list[str] = []
    assert ours.latest(said.append) is None
    assert any("another run wrote it: theirs, this is ours" in line for line in said)


# ---- a real disk ----------------------------------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte; how it is mounted anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = lambda options: subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True)  # noqa: E731
    if os.geteuid() or mount("size=1m").returncode:
        pytest.skip("mounting a disk needs root")
    yield place, mount
    subprocess.run(["umount", place], check=True)


def free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("checkpoints", [0.5, 1.5, 2.5, 3.5])
def test_a_disk_that_is_really_full_costs_only_the_time_since_the_last_checkpoint(packs, tmp_path, small_disk, checkpoints):
    place, _ = small_disk
    whole, run = SmallRun(packs, tmp_path / "whole"), SmallRun(packs, place / "run")
    assert whole.call().returncode == 0
    size = max(f.stat().st_size for f in (tmp_path / "whole").rglob("step-*.safetensors"))
    filler = place / "filler"
    with open(filler, "wb", buffering=0) as file:
        while free_bytes(place) > checkpoints * size + 8192:
            file.write(bytes(4096))
    done = run.call()
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device" in done.stderr and "run again" in done.stderr and done.stderr.count("\n") == 1
    kept = CheckpointStore(next((place / "run" / "checkpoints").glob("*/"))).latest()
    assert (kept is not None) == (checkpoints > 1) and not list(place.rglob("*.tmp"))
    filler.unlink()
    assert run.call().returncode == 0
    assert run.results() == whole.results()


def test_a_disk_that_is_read_only_is_one_line_and_what_was_saved_is_gone_on_from(packs, tmp_path, small_disk):
    place, mount = small_disk
    whole, run = SmallRun(packs, tmp_path / "whole", epochs=200), SmallRun(packs, place / "run", epochs=200)
    assert whole.call().returncode == 0
    process = run.start()
    try:
        run.wait_past(100)
    finally:
        process.kill()
        process.communicate()
    assert mount("remount,ro").returncode == 0
    done = run.call()
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: {place}") and "Read-only file system" in done.stderr
    assert mount("remount,rw").returncode == 0
    done = run.call()
    assert done.returncode == 0 and "resuming at step" in done.stdout
    assert run.results() == whole.results()
