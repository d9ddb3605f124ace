"""GPU slots with real processes: never two runs on one GPU, and a run that is killed gives its GPU back at once."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trainyard.host import slots
from trainyard.host.gpus import Gpu
from trainyard.host.slots import hold_gpu, holders_of, take

GPUS = [Gpu(f"GPU-{i}", "Fake", i) for i in range(3)]
# A run: waits for a slot, writes down which GPU it got, and stays until it is told to go or killed.
RUN = """
import os, sys, time
from trainyard.host import slots
from trainyard.host.gpus import Gpu
slots.usable_gpus = lambda device: [Gpu(f"GPU-{i}", "Fake", i) for i in range(int(sys.argv[2]))]
slots.LOOK_AGAIN = 0.02
device = slots.hold_gpu("auto", sys.argv[1], int(sys.argv[3]))
print(device, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("TRAINYARD_SLOTS", str(tmp_path / "slots"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "slots"


@pytest.fixture
def start():
    started = []

    def begin(name: str, gpus: int = 3, per_gpu: int = 1) -> subprocess.Popen:
        command = [sys.executable, "-c", RUN, name, str(gpus), str(per_gpu)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def gpu_of(process: subprocess.Popen) -> str:
    """The GPU that a run got, as it says; waits for it."""
    while not (line := process.stdout.readline()).startswith("cuda"):
        assert line, "the run ended without a GPU"
    return line.split()[1]


def test_runs_spread_over_gpus_and_the_next_waits_until_one_is_killed(start) -> None:
    runs = [start(f"run{i}") for i in range(3)]
    assert sorted(gpu_of(r) for r in runs) == ["GPU-0", "GPU-1", "GPU-2"]
    waiting = start("late")
    assert "waiting for a GPU: 3 here" in waiting.stdout.readline()
    assert {(h["run"], h["pid"]) for h in holders_of(GPUS)} == {(f"run{i}", r.pid) for i, r in enumerate(runs)}
    freed = next(h["gpu"] for h in holders_of(GPUS) if h["pid"] == runs[1].pid)
    os.kill(runs[1].pid, signal.SIGKILL)
    runs[1].wait()
    assert gpu_of(waiting) == freed
    assert len(list(holders_of(GPUS))) == 3


def test_every_slot_of_many_killed_runs_comes_back(start) -> None:
    for _ in range(4):
        runs = [start("x") for _ in range(3)]
        assert len({gpu_of(r) for r in runs}) == 3
        for run in runs:
            os.kill(run.pid, signal.SIGKILL)
        for run in runs:
            run.wait()
    assert not list(holders_of(GPUS))


def test_two_runs_a_gpu_where_the_config_says_so(start) -> None:
    runs = [start(f"run{i}", gpus=2, per_gpu=2) for i in range(4)]
    assert sorted(gpu_of(r) for r in runs) == ["GPU-0", "GPU-0", "GPU-1", "GPU-1"]


def test_the_gpu_with_fewer_runs_comes_first(monkeypatch) -> None:
    monkeypatch.setattr(slots, "_held", [])
    assert [take(GPUS[:2], "r", per_gpu=2).name for _ in range(4)] == ["GPU-0", "GPU-1", "GPU-0", "GPU-1"]  # type: ignore[union-attr]
    assert take(GPUS[:2], "r", per_gpu=2) is None
    for handle in slots._held:
        os.close(handle)


def test_a_run_that_waits_can_be_asked_to_stop(start, monkeypatch) -> None:
    holder = start("first", gpus=1)
    gpu_of(holder)
    monkeypatch.setattr(slots, "usable_gpus", lambda device: GPUS[:1])
    monkeypatch.setattr(slots, "LOOK_AGAIN", 0.01)
    asked = iter([False, True])
    said: list[str] = []
    assert hold_gpu("auto", "second", stop=lambda: next(asked), say=said.append) is None
    assert f"first (pid {holder.pid})" in said[0]


def test_without_a_gpu_nothing_is_done(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(slots, "usable_gpus", lambda device: [])
    assert hold_gpu("auto", "run", say=pytest.fail) == "auto"
    assert not folder.exists() and "CUDA_VISIBLE_DEVICES" not in os.environ


def test_the_folder_is_locked_so_that_nothing_sweeps_it_meanwhile(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(slots, "_held", [])
    assert take(GPUS[:1], "first") == GPUS[0]
    assert json.loads((folder / "GPU-0.0").read_text())["run"] == "first"
    handle = os.open(folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for held in [*slots._held, handle]:
        os.close(held)


def test_a_folder_of_somebody_else_is_not_used(folder: Path, monkeypatch) -> None:
    folder.mkdir()
    monkeypatch.setattr(slots.os, "getuid", lambda: 12345)
    with pytest.raises(OSError, match="belongs to another user"):
        take(GPUS, "run")
