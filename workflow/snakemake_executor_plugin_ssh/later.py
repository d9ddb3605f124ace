"""Cancelling what cannot be reached now: a process that stays behind and tries until the host is back."""

import os
import subprocess
import sys
from pathlib import Path


def cancel_later(home: Path, left: dict[str, int]) -> str:
    """Start it; returns what to tell the person. `left`: {host: attempts that were not ended}."""
    command = ["-m", __package__, "cancel", "--revoked-only", "--after", str(os.getpid()), "--folder", str(home.parent.parent)]
    with open(home / "cancel.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    names = ", ".join(f"{count} on {name}" for name, count in sorted(left.items()))
    return f"jobs that could not be cancelled yet, because their host cannot be reached: {names}. Process {process.pid} goes on trying."
