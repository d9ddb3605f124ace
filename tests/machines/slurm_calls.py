"""Calls of the workflow with the slurm profile, and its trainings looked at from outside."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from slurm_cluster import wait_for

HOME = Path(__file__).parents[2]
RUNS = ("als-fold1", "als-fold2")
FILES = ("model.safetensors", "history.csv")
PATIENCE = 150.0  # seconds that anything on this machine may take


class Call:
    """A call of Snakemake in a process group of its own, as a terminal would start it."""

    def __init__(self, folder: Path, *args: str, profile: str | None = "slurm", config: tuple[str, ...] = ()):
        self.folder = folder
        command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile"), "-d", str(folder)]
        command += ["--workflow-profile", str(HOME / "profiles/default")]
        command += ["--profile", str(HOME / "profiles" / profile)] if profile else ["--cores", "2"]
        command += [*args, "--config", "suites=aimedres", *config]
        environment = {**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
        with open(folder / "call.log", "ab") as log:
            self._start = log.tell()
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)

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
        if not self.ended():
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)


class Training:
    """A run's trainer, seen by what it writes."""

    def __init__(self, folder: Path, run: str):
        self.folder, self.run = folder, run
        self.checkpoints = folder / "checkpoints" / "aimedres" / run

    def _progress(self) -> dict:
        try:
            return json.loads((self.checkpoints / "progress.json").read_text())
        except (OSError, ValueError):
            return {}

    @property
    def pid(self) -> int:
        return int(self._progress().get("pid", 0))

    def alive(self) -> bool:
        return (
            self.pid > 0 and Path(f"/proc/{self.pid}/cmdline").exists() and b"train_model" in Path(f"/proc/{self.pid}/cmdline").read_bytes()
        )

    def freeze_after_a_checkpoint(self) -> None:
        """Let it train until it has work to lose, and stop its clock there: however fast this machine is, what comes next hits it
        in the middle."""

        def caught() -> bool:
            if not (self.alive() and (self._progress().get("last_checkpoint") or 0) > 0):
                return False
            os.kill(self.pid, signal.SIGSTOP)
            return True

        assert wait_for(caught, PATIENCE, 0.02), f"{self.run} was not seen training\n{self.newest_log()}"

    def thaw(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def logs(self) -> list[str]:
        """One an attempt, the oldest first."""
        return [path.read_text() for path in sorted((self.folder / "logs/train_model/aimedres").glob(f"{self.run}.2*.log"))]

    def newest_log(self) -> str:
        return (self.logs() or [""])[-1]

    def result(self) -> list[bytes]:
        return [(self.folder / "results/aimedres/runs" / self.run / name).read_bytes() for name in FILES]


def models(*runs: str) -> list[str]:
    return [f"results/aimedres/runs/{run}/model.safetensors" for run in runs]
