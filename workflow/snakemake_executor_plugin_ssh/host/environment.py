"""What is installed on this host, and how big it is."""

import importlib.metadata
import os
import shutil
import subprocess
import time


def problems(packages):
    """Differences from {package: version} as the controller has it, in words; version None: any will do."""
    found = []
    for name, wanted in sorted(packages.items()):
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} is missing")
            continue
        # A build of its own (torch 2.13.0+cpu) is the version, unless the build is asked for.
        if wanted is not None and wanted not in (here, here.partition("+")[0]):
            found.append(f"{name} is {here}, not {wanted}")
    return found


def size():
    """Cores, memory in MB, GPUs: what a job may be given where the settings do not say."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return {"cores": cores, "mem_mb": memory, "gpu": _gpus()}


def time_of_day():
    """Seconds since the epoch, as this host has it: for the controller to compare, nothing here goes by it."""
    return time.time()


def _gpus():
    tool = shutil.which("nvidia-smi")
    if not tool:
        return 0
    try:
        done = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())
