"""Whether a process that wrote a file is still there: dead and unknown are not the same."""

import os
import socket
from typing import Literal

from trainyard.train.progress import process_started

Life = Literal["alive", "dead", "unknown"]
EPOCH = 1e9  # a start time above it is epoch seconds (after 2001), below it clock ticks since boot


def life_of(host: object, pid: object, started: object = None) -> Life:
    """alive or dead if the process ran on this machine; unknown if it ran elsewhere or the file does not say.

    `started` tells a pid from a later process with the same number: clock ticks since boot (Linux), or epoch seconds.
    """
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0 or not isinstance(host, str) or host != socket.gethostname():
        return "unknown"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "dead"
    except OSError:
        pass  # it exists and is somebody else's
    if not isinstance(started, int | float):
        return "alive"
    now = _epoch_start(pid) if started > EPOCH else process_started(pid)
    if now is None:
        return "alive"
    return "alive" if abs(now - started) <= (2.0 if started > EPOCH else 1.0) else "dead"


def _epoch_start(pid: int) -> float | None:
    try:
        import psutil

        return psutil.Process(pid).create_time()
    except Exception:
        return None
