"""A workflow that is killed, interrupted or asked to stop, with the real Snakemake; the next call goes on, to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from workflow_runs import HOME, snakemake, summary

TOY = ("suites=aimedres", "only=als-fold1", "folds=2", "subset_size=200")
OVERLAY = {"aimedres": {"models": {"als": {"epochs": 800, "batch_size": 16, "checkpoint": {"every_epochs": 20}}}}}
RUN = "results/aimedres/runs/als-fold1"
LOG = "logs/train_model/aimedres/als-fold1.log"
LONGEST = 120  # seconds that anything is waited for


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    """A folder with all that comes before training, and the result of one that nobody disturbed."""
    folder = tmp_path_factory.mktemp("ready")
    (folder / "long.json").write_text(json.dumps(OVERLAY))
    done = snakemake(folder, f"{RUN}/train.json", "--configfile", str(folder / "long.json"), config=TOY)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture
def yard(ready):
    """The same folder before its training."""
    before = {p: p.read_bytes() for p in (ready / RUN).glob("*") if p.name in ("model.safetensors", "history.csv", "predictions.parquet")}
    assert len(before) == 3
    for path in (ready / RUN).glob("*"):
        path.unlink()
    for path in (ready / "checkpoints").rglob("*"):
        if path.is_file():
            path.unlink()
    call = Call(ready)
    yield call
    call.clean_up()
    if not (ready / RUN / "train.json").exists():
        assert call.again().returncode == 0
    assert {p: p.read_bytes() for p in before} == before, "the same bytes as if nothing had been"


class Call:
    """A call of snakemake in the background, in a process group of its own as a terminal gives it."""

    def __init__(self, folder: Path):
        self.folder, self.process = folder, None

    def start(self, *more: str) -> None:
        command = [sys.executable, "-c", "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
                   "os.execv(sys.executable, [sys.executable, '-m', 'snakemake', *sys.argv[1:]])"]  # fmt: skip
        command += ["-s", str(HOME / "Snakefile"), "-d", str(self.folder), "--cores", "2", *self.options(*more)]
        with open(self.folder / "said", "w") as said:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=said, stderr=said, start_new_session=True)

    def options(self, *more: str) -> list[str]:
        return ["--workflow-profile", str(HOME / "profiles" / "default"), *more, "--configfile", str(self.folder / "long.json"),
                "--config", *TOY, "--", f"{RUN}/train.json"]  # fmt: skip

    def again(self) -> subprocess.CompletedProcess:
        return snakemake(self.folder, f"{RUN}/train.json", "--configfile", str(self.folder / "long.json"), config=TOY)

    def trainers(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if b"train_model.py" in entry.read_bytes() and os.readlink(entry.parent / "cwd") == str(self.folder.resolve()):
                    found.append(int(entry.parent.name))
        return found

    def wait_until(self, true, what: str) -> None:
        until = time.monotonic() + LONGEST
        while not true():
            assert time.monotonic() < until, f"waited for {what}; {self.said()[-2000:]}"
            time.sleep(0.05)

    def wait_past(self, step: int) -> None:
        """Until the training that runs now has a checkpoint past a step."""

        def past() -> bool:
            with suppress(OSError, ValueError):
                found = json.loads((self.folder / "checkpoints/aimedres/als-fold1/progress.json").read_text())
                return found["pid"] in self.trainers() and (found.get("last_checkpoint") or 0) > step
            return False

        self.wait_until(past, f"a checkpoint past step {step}")

    def nobody_left(self) -> None:
        self.wait_until(lambda: not self.trainers(), "the trainer to leave")

    def said(self) -> str:
        return (self.folder / "said").read_text() if (self.folder / "said").exists() else ""

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.trainers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_killed_snakemake_leaves_no_trainer_and_no_lock_for_the_next(yard):
    yard.start()
    yard.wait_past(0)
    (pid,) = yard.trainers()
    os.kill(pid, signal.SIGSTOP)  # so that it is still there, however long the second call takes
    second = yard.again()
    assert second.returncode == 1 and "cannot be locked" in second.stdout + second.stderr, "two on one folder: a clear word"
    yard.process.kill()
    yard.process.wait()
    os.kill(pid, signal.SIGCONT)
    yard.nobody_left()
    assert "the workflow that started this run is gone; saved at step" in (yard.folder / LOG).read_text()
    done = yard.again()
    assert done.returncode == 0 and f"(pid {yard.process.pid}) was killed; its lock is taken away" in done.stderr
    assert "resuming at step" in (yard.folder / LOG).read_text()


def test_a_killed_trainer_is_gone_on_with_by_the_same_call(yard):
    yard.start("--retries", "2")
    yard.wait_past(0)
    (pid,) = yard.trainers()
    os.kill(pid, signal.SIGKILL)
    yard.wait_until(lambda: pid not in yard.trainers() and yard.trainers(), "the next attempt")
    yard.wait_past(0)
    (pid,) = yard.trainers()
    os.kill(pid, signal.SIGUSR1)
    assert yard.process.wait(LONGEST) == 0, yard.said()
    attempts = [p.read_text() for p in sorted((yard.folder / LOG).parent.glob("als-fold1.2*.log"))][-3:]
    assert "stopped: received SIGUSR1; saved at step" in attempts[1]
    assert "resuming at step" in attempts[1] and "resuming at step" in attempts[2]


def test_the_first_ctrl_c_saves_and_writes_the_summary(yard):
    yard.start()
    yard.wait_past(0)
    os.killpg(yard.process.pid, signal.SIGINT)
    assert yard.process.wait(LONGEST) == 1
    assert not yard.trainers()
    assert "stopped: received SIGINT; saved at step" in (yard.folder / LOG).read_text()
    assert [j["state"] for j in summary(yard.folder)["jobs"] if j["rule"] == "train_model"] == ["interrupted"]
    assert "Traceback" not in yard.said() and "goes on from its last checkpoint" in yard.said()


def test_the_second_ctrl_c_ends_at_once_without_a_traceback(yard):
    yard.start()
    yard.wait_past(0)
    os.killpg(yard.process.pid, signal.SIGINT)
    time.sleep(0.05)
    os.killpg(yard.process.pid, signal.SIGINT)
    assert yard.process.wait(LONGEST) == 130
    assert "Traceback" not in yard.said() and yard.said().count("stopped at once") == 1
    yard.nobody_left()
    assert yard.again().returncode == 0, "nothing is locked"
