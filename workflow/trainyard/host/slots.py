"""One GPU holds one run: a run takes a slot before it touches a GPU, and no other run gets that slot meanwhile.

A slot is a lock file of this machine, held by flock: the kernel lets go of it when the process ends, however it ends, so a crash
leaves nothing to clean up. The run then sees its GPU and no other (CUDA_VISIBLE_DEVICES). Where there is no GPU nothing is done.
"""

import contextlib
import fcntl
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainyard.host.gpus import Gpu, usable_gpus

LOOK_AGAIN = 0.5  # seconds
_held: list[int] = []  # handles of this process' slots: open as long as it lives


def slots_folder() -> Path:
    """Where this machine's slots of this user lie. Not below the results: those may lie on a disk that machines share."""
    return Path(os.environ.get("TRAINYARD_SLOTS") or Path(tempfile.gettempdir()) / f"trainyard-gpu-slots-{os.getuid()}")


def hold_gpu(
    device: str, run: str, per_gpu: int = 1, stop: Callable[[], bool] = lambda: False, say: Callable[[str], Any] = print
) -> str | None:
    """Wait for a slot of a GPU that `device` allows, keep it while this process lives, and show the run that GPU alone.

    Call it before torch looks for devices. Returns the --device to go on with: as given where there is no GPU; None when `stop()`
    came true first.
    """
    gpus = usable_gpus(device)
    if not gpus:
        return device
    told = False
    while (gpu := take(gpus, run, per_gpu)) is None:
        if not told:
            holders = ", ".join(sorted({f"{h.get('run')} (pid {h.get('pid')})" for h in holders_of(gpus)}))
            say(f"waiting for a GPU: {len(gpus)} here, {per_gpu} run{'s' if per_gpu > 1 else ''} each, held by {holders or 'others'}")
            told = True
        if stop():
            return None
        time.sleep(LOOK_AGAIN * random.uniform(0.5, 1.5))
    if gpu.kind == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu.name
    say(f"on {gpu.model} ({gpu.name})")
    return gpu.kind


def take(gpus: Sequence[Gpu], run: str, per_gpu: int = 1) -> Gpu | None:
    """Take a free slot, of the GPU with the fewest runs; None when all are held."""
    for number in range(per_gpu):
        for gpu in gpus:
            handle = os.open(_slot(gpu, number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                continue
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"run": run, "pid": os.getpid(), "since": time.time()}).encode(), 0)
            _held.append(handle)
            _keep_from_sweeping()
            return gpu
    return None


def holders_of(gpus: Sequence[Gpu]) -> Iterator[dict[str, Any]]:
    """Who holds slots of these GPUs now: run, pid, since, gpu."""
    for gpu in gpus:
        for path in sorted(slots_folder().glob(f"{_file_name(gpu)}.*")):
            with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
                try:
                    fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)  # free: whoever wrote it is gone
                except OSError:
                    yield {**json.loads(file.read()), "gpu": gpu.name}


def _slot(gpu: Gpu, number: int) -> Path:
    folder = slots_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise OSError(f"{folder} belongs to another user, so GPU slots cannot be kept there: set TRAINYARD_SLOTS to a folder of yours")
    return folder / f"{_file_name(gpu)}.{number}"


def _keep_from_sweeping() -> None:
    """A lock on the folder: systemd-tmpfiles, which sweeps old files out of /tmp, leaves locked folders alone."""
    handle = os.open(slots_folder(), os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    _held.append(handle)


def _file_name(gpu: Gpu) -> str:
    return gpu.name.replace("/", "_")
