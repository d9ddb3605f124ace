"""How far a training is: a small file for whoever looks, and events for TensorBoard."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainyard.data.files import replacing


def process_started(pid: int) -> float | None:
    """When a process started, in clock ticks since boot (Linux), so that a reused pid is told apart; else None."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def peak_memory_mb() -> float:
    """Peak resident memory of this process, MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


class Heartbeat:
    """Writes progress.json at most once a second. A lost heartbeat costs nothing: it is not synced, and a full disk is no reason
    to stop."""

    EVERY = 1.0

    def __init__(self, path: str | os.PathLike, **fixed: Any):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.fixed = {**fixed, "pid": os.getpid(), "pid_started": process_started(os.getpid()), "host": socket.gethostname()}
        self._last, self._begun = 0.0, time.monotonic()
        self._begun_step: int | None = None

    def due(self, step: int) -> bool:
        """Whether it is time to say something; cheap, for it is asked after every step."""
        now = time.monotonic()
        if self._begun_step is None:
            self._begun, self._begun_step = now, step
        return now - self._last >= self.EVERY

    def beat(self, step: int, steps: int, samples_per_step: int, **values: Any) -> None:
        """Say where training is."""
        self.due(step)
        now = self._last = time.monotonic()
        done = step - (self._begun_step or 0)
        rate = done / (now - self._begun) if done and now > self._begun else None
        left = (steps - step) / rate if rate else None
        # The spread of a step's time is not known after a few steps; it narrows with the square root of their number.
        spread = min(0.5, 1.0 / max(1, done) ** 0.5) if done else 0.5
        content = {
            **self.fixed, **values, "step": step, "steps": steps, "updated": time.time(), "memory_mb": round(peak_memory_mb()),
            "samples_per_second": round(rate * samples_per_step, 2) if rate else None,
            "eta_seconds": round(left, 1) if left is not None else None,
            "eta_low": round(left * (1 - spread), 1) if left is not None else None,
            "eta_high": round(left * (1 + spread), 1) if left is not None else None,
        }  # fmt: skip
        with suppress(OSError), replacing(self.path, sync=False) as temporary:
            temporary.write_text(json.dumps(content))


# What a training tells beside its heartbeat: scalars by name at a step.
Scalars = Callable[[int, dict[str, float]], None]


def tell_nobody(_step: int, _scalars: dict[str, float]) -> None:
    """No events are asked for."""
