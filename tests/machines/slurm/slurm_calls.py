"""Calls of the workflow with the slurm profile, and its trainings looked at from outside."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from slurm_processes import end_all, family, wait_for

HOME = Path(__file__).parents[3]
RUNS = ("als-fold1", "als-fold2")
FILES = ("model.safetensors", "history.csv")
# Three optimiser steps an epoch: hundreds of epochs take seconds, and a checkpoint comes with every second one.
SMALL = ("only=als", "folds=2", "subset_size=200", "epochs=400")
SECONDS = ("--trainyard-slurm-init-seconds-before-status-checks", "2")
PATIENCE = 300.0  # seconds that anything on this machine may take, however busy it is
MARK = "TRAINYARD_TEST_CALL"  # in the environment of a call and of all that it starts, its Slurm jobs too
SLICE = 0.1  # seconds that a training runs between two looks at it


class Call:
    """A call of Snakemake in a process group of its own, as a terminal would start it."""

    def __init__(self, folder: Path, *args: str, profile: str | None = "slurm", config: tuple[str, ...] = ()):
        self.folder = folder
        command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile"), "-d", str(folder)]
        command += ["--workflow-profile", str(HOME / "profiles/default")]
        command += ["--profile", str(HOME / "profiles" / profile)] if profile else ["--cores", "2"]
        command += [*args, "--config", "suites=aimedres", *config]
        environment = {**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1", MARK: str(folder)}
        with open(folder / "call.log", "ab") as log:
            self._start = log.tell()
            self._process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell in the background ignores it
            )  # fmt: skip

    def wait(self, seconds: float = PATIENCE) -> int:
        return self._process.wait(seconds)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Ctrl+C: the whole group gets it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """The controller alone, as when a login node takes its memory back."""
        self._process.kill()
        self._process.wait(10)

    def log(self) -> str:
        """What this call said."""
        return (self.folder / "call.log").read_bytes()[self._start :].decode(errors="replace")

    def close(self) -> None:
        """End it and all that it started, its jobs and what it left to end them."""
        end_all(lambda: family([[f"{MARK}={self.folder}"]]))
        self._process.wait(10)


class Training:
    """A run's trainer, seen from outside: its process on this machine, its checkpoints and its logs."""

    def __init__(self, folder: Path, run: str):
        self.folder, self.run = folder, run
        self._found: tuple[int, int] = (0, 0)  # a trainer, and the step of the newest checkpoint when it was first seen

    @property
    def pid(self) -> int:
        """Of the trainer; 0 when there is none."""
        pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
        return next((pid for pid in pids if self._is_trainer(pid)), 0)

    def _is_trainer(self, pid: int) -> bool:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(word.endswith(b"/train_model.py") for word in words) and f"checkpoints/aimedres/{self.run}".encode() in words:
                return os.readlink(f"/proc/{pid}/cwd") == str(self.folder)
        return False

    def alive(self) -> bool:
        return self.pid > 0

    def step(self) -> int:
        """Of the newest checkpoint; 0 without one."""
        newest = 0
        for manifest in (self.folder / "checkpoints/aimedres" / self.run).glob("*/manifest.json"):
            with suppress(OSError, ValueError):
                newest = max([newest, *(entry["step"] for entry in json.loads(manifest.read_text()))])
        return newest

    def freeze_after_a_checkpoint(self) -> None:
        """Let it train until it has work to lose, and stop its clock there, so that what comes next hits it in the middle. It runs in
        slices, and stands while it is looked at: so it is not over before anyone looks, however busy this machine is."""

        def caught() -> bool:
            if not (pid := self.pid):
                return False
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                if not wait_for(lambda: status(pid).get("State", "X")[0] in "TXZ", PATIENCE, 0.005):
                    return False
                if self._found[0] != pid:
                    self._found = pid, self.step()
                if self.step() > self._found[1]:
                    return True
                os.kill(pid, signal.SIGCONT)
            return False

        assert wait_for(caught, PATIENCE, SLICE), f"{self.run} was not seen training\n{self.newest_log()}"

    def asked_to_leave(self) -> bool:
        """Whether SIGTERM waits for it, or has reached it already."""
        found = status(self._found[0])
        return bool(int(found.get("ShdPnd", "0"), 16) >> (signal.SIGTERM - 1) & 1) or found.get("State", "X")[0] != "T"

    def thaw(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._found[0], signal.SIGCONT)

    def logs(self) -> list[str]:
        """One an attempt, the oldest first."""
        return [path.read_text() for path in sorted((self.folder / "logs/train_model/aimedres").glob(f"{self.run}.2*.log"))]

    def newest_log(self) -> str:
        return (self.logs() or [""])[-1]

    def result(self) -> list[bytes]:
        return [(self.folder / "results/aimedres/runs" / self.run / name).read_bytes() for name in FILES]


def status(pid: int) -> dict[str, str]:
    """What the kernel says of a process; nothing of one that is gone."""
    with suppress(OSError):
        return {name: value.strip() for name, _, value in (r.partition(":") for r in Path(f"/proc/{pid}/status").read_text().splitlines())}
    return {}


def models(*runs: str) -> list[str]:
    return [f"results/aimedres/runs/{run}/model.safetensors" for run in runs]
