"""A folder of one call, where its jobs leave a file each when they end. What is left of it names a call that was killed."""

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
        (folder / CONTROLLER).write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))

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
        told = json.loads((folder / CONTROLLER).read_text())
        if told["host"] != socket.gethostname():
            return False
        os.kill(told["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return told["pid"] != os.getpid()
