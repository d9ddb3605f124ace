"""Processes that a test started, or that those started."""

import time

import psutil


def gone(process: int) -> bool:
    """Whether a process ends within some seconds; one that nobody has waited for is at an end too."""
    for _ in range(100):
        try:
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False
