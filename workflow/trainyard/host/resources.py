"""Cores and memory that this process may use: the machine's, and no more than its control group allows."""

import math
import os
from typing import NamedTuple

from trainyard.host import cgroup


class Memory(NamedTuple):
    """MB. limited: whether the control group, not the machine, sets the total."""

    total: float
    free: float
    limited: bool = False


def usable_cores() -> float:
    """Cores: by affinity, and by the time that a control group allows."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return min(cores, cgroup.cpu_limit())


def memory() -> Memory:
    """What there is, and what could be used now without swapping."""
    import psutil

    machine = psutil.virtual_memory()
    limit, left = cgroup.memory_limit(), cgroup.memory_left()
    total, free = min(machine.total, limit), min(machine.available, left)
    return Memory(total / 2**20, free / 2**20, math.isfinite(limit) and limit < machine.total)
