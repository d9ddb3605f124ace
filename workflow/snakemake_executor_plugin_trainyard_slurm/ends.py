"""A folder of one call, where its jobs leave a file each when they end. What is left of it names a call that was killed."""

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_trainyard_slurm.cancel import queue

DONE, FAILED = "done", "failed"
REACT = 20.0  # seconds in which Slurm should know of an end; after that its own time counts again
LONG = 300.0  # seconds after which the job's word is enough
CONTROLLER = "controller.json"


class Ends:
    """Which jobs said that they ended. Jobs are Snakemake's: a job id and an attempt make a name."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._seen: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        # Locked as long as this process lives: a process number alone may be another's after a reboot.
        self._controller = open(folder / CONTROLLER, "w", encoding="utf-8")  # noqa: SIM115
        with suppress(OSError):
            fcntl.flock(self._controller, fcntl.LOCK_EX | fcntl.LOCK_NB)
        json.dump({"host": socket.gethostname(), "pid": os.getpid()}, self._controller)
        self._controller.flush()

    def files(self, job: Any) -> tuple[Path, Path]:
        """What a job leaves when it is done, and when it has failed. A new attempt starts without either."""
        stem = f"{job.jobid}-{job.attempt}"
        return self.folder / f"{stem}.{DONE}", self.folder / f"{stem}.{FAILED}"

    def fresh(self, jobs: Iterable[Any]) -> bool:
        """Whether one of these ended a moment ago: Slurm is to be asked now."""
        with suppress(OSError):
            os.utime(self.folder)  # makes a network file system look again
        try:
            names = set(os.listdir(self.folder))
        except OSError:
            return False
        now = time.monotonic()
        ended = [path.name for job in jobs for path in self.files(job) if path.name in names]
        return any(now - self._seen.setdefault(name, now) < REACT for name in ended)

    def stale(self, job: Any) -> bool | None:
        """How a job ended that said so long ago: well or not; None for every other."""
        now = time.monotonic()
        for path in self.files(job):
            if now - self._seen.get(path.name, now) > LONG:
                return path.suffix == f".{DONE}"
        return None

    def remove(self) -> None:
        self._controller.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def leftovers(records: Path) -> list[Path]:
    """Folders of earlier calls that left jobs in the queue; those that left none are removed."""
    found = []
    for folder in sorted(p for p in records.glob("*") if p.is_dir()):
        if _controlled(folder):
            continue
        if jobs := queue(folder.name):
            found.append(folder)
        elif jobs is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _controlled(folder: Path) -> bool:
    """Whether the call is still there: seen on its own host only; for other hosts Snakemake's lock of the folder speaks."""
    try:
        with open(folder / CONTROLLER, "r+", encoding="utf-8") as file:
            told = json.load(file)
            if told["host"] != socket.gethostname():
                return False
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            except BlockingIOError:
                return True
            except OSError:  # a file system without locks
                os.kill(told["pid"], 0)
                return told["pid"] != os.getpid()
    except (OSError, ValueError, KeyError, TypeError):
        return False
