"""`trainyard recommend`: how many runs at once; for people, or as flags for `make run`."""

from pathlib import Path

from trainyard.host.gpus import usable_gpus
from trainyard.host.recommend import RULE_GB, recommend, worker_cores
from trainyard.host.resources import memory, usable_cores

CONFIG = Path("config/config.yaml")
MEMORY_SHARE = 0.9  # of what is free, for jobs


def run_recommend(
    cores: float | None, gigabytes: float | None, gpus: int | None, per_run: float | None, threads: int, per_gpu: int, flags: bool
) -> int:
    """Print it; returns the exit code. What is None is this machine's own."""
    here = memory()
    own = cores is None and gigabytes is None and gpus is None
    cores = usable_cores() if cores is None else cores
    free = here.free if gigabytes is None else 1024 * gigabytes
    gigabytes = here.total / 1024 if gigabytes is None else gigabytes
    gpus = (len(usable_gpus()) if own else 0) if gpus is None else gpus
    if flags:
        per_gpu = _slots_of_config() or per_gpu
        # Snakemake adds up what running jobs ask for; so the memory of each counts as its model states it, not as a rule for all.
        words = f"--cores {worker_cores(cores)} --resources mem_mb={int(MEMORY_SHARE * free)}"
        print(f"{words} gpu={gpus * per_gpu}" if gpus else f"{words} gpu=1")
        return 0
    advice = recommend(cores, gigabytes, gpus, per_run or RULE_GB, threads, per_gpu)
    print(f"{advice.runs} run{'s' if advice.runs > 1 else ''} at once, by {advice.bound}: {advice.reason}")
    if per_run is None:
        print(
            f"{RULE_GB:g} GB a run is the rule for runs of which nothing is known. --per-run gives another figure; preflight measures it."
        )
    return 0


def _slots_of_config() -> int | None:
    """gpu_slots of the configuration here, if it says any."""
    import yaml

    try:
        found = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None  # snakemake, which is called next, says what is wrong with it
    slots = found.get("gpu_slots") if isinstance(found, dict) else None
    return slots if isinstance(slots, int) and not isinstance(slots, bool) and slots > 0 else None
