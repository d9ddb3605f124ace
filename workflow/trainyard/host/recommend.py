"""How many runs a machine takes at once.

The owners of the medical suite give a rule (a worker a core, 8 GB a worker, one run a GPU) and a table. The table's upper ends for
4 cores with 16 GB (3) and for 6 with 32 GB (6) break its own 8 GB; the rule is kept here, so these get 2 and 4. Beyond 8 cores it
gives fewer than a worker a core (8 to 12 for 16): every second core above 8 is left to decoding, writing and the system.
"""

import math
from dataclasses import dataclass

RULE_GB = 8.0  # a run of which nothing is known
WHOLE_CORES = 8
NOMINAL = 1.06  # a machine sold with 16 GB shows about 15.3: firmware and kernel keep the rest


@dataclass(frozen=True)
class Advice:
    """Runs at once, and what sets that number: cores, memory or GPUs."""

    runs: int
    bound: str
    reason: str


def recommend(cores: float, memory_gb: float, gpus: int = 0, gb_per_run: float = RULE_GB, threads: int = 1, per_gpu: int = 1) -> Advice:
    """How many runs of `threads` threads and `gb_per_run` GB each a machine takes; memory in GiB as sold or as shown."""
    limits = {
        "cores": (worker_cores(cores) // threads, f"{cores:g} core{'s' if cores != 1 else ''}, {threads} a run"),
        "memory": (math.floor(memory_gb * NOMINAL / gb_per_run), f"{memory_gb:.3g} GB, {gb_per_run:.2g} a run"),
    }
    if gpus:
        limits["GPUs"] = (gpus * per_gpu, f"{gpus} GPU{'s' if gpus > 1 else ''}, {per_gpu} run{'s' if per_gpu > 1 else ''} each")
    bound = min(limits, key=lambda name: limits[name][0])
    runs, reason = limits[bound]
    return Advice(max(1, runs), bound, reason if runs >= 1 else f"{reason}: less than one run asks for")


def worker_cores(cores: float) -> int:
    """Cores for runs: all up to 8, every second one above."""
    whole = max(1, int(cores))
    return whole if whole <= WHOLE_CORES else WHOLE_CORES + (whole - WHOLE_CORES) // 2
