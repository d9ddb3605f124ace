"""A call of snakemake in the background, to be killed, interrupted and asked to stop."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

from workflow_runs import HOME, snakemake

LONGEST = 120  # seconds that anything is waited for
RUN = "aimedres/als-fold1"
START = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "os.execv(sys.executable, [sys.executable, '-m', 'snakemake', *sys.argv[1:]])"
)


class Call:
    """Calls of snakemake in a folder for the same `targets` (none: the whole workflow), one of them in the background."""

    def __init__(self, folder: Path, overlay: str, config: tuple[str, ...], *targets: str):
        self.folder, self.overlay, self.config, self.targets = folder, str(folder / overlay), config, targets
        self.process: subprocess.Popen | None = None
        self.terminal: int | None = None

    def start(self, *more: str, terminal: bool = False) -> None:
        """In a process group of its own; with `terminal`, as the one in the foreground of a terminal of its own."""
        command = [sys.executable, "-c", START, "-s", str(HOME / "Snakefile"), "-d", str(self.folder), "--cores", "2"]
        command += ["--workflow-profile", str(HOME / "profiles" / "default"), *more, "--configfile", self.overlay]
        command += ["--config", *self.config, "--", *self.targets]
        with open(self.folder / "said", "wb") as said:
            if not terminal:
                self.process = subprocess.Popen(command, cwd=self.folder, stdout=said, stderr=said, start_new_session=True)
                return
            self.terminal, inside = pty.openpty()
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )  # fmt: skip
            os.close(inside)
            threading.Thread(target=copy_all, args=(self.terminal, self.folder / "said"), daemon=True).start()

    def press_ctrl_c(self) -> None:
        """The signal goes to all that is in the foreground of the terminal, or to the process group."""
        if self.terminal is None:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            os.write(self.terminal, b"\x03")

    def again(self, *more: str) -> subprocess.CompletedProcess:
        return snakemake(self.folder, *self.targets, *more, "--configfile", self.overlay, config=self.config)

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
                found = json.loads((self.folder / "checkpoints" / RUN / "progress.json").read_text())
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
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None


def copy_all(handle: int, path: Path) -> None:
    """What comes from a terminal, into a file, until it ends."""
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while data := os.read(handle, 1 << 16):
            file.write(data)
