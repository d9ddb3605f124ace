"""Running out of memory: recognising it, going on with smaller micro-batches, and holding a process to a cap.

The ladder keeps which sizes worked, and from which step on, in a file beside the checkpoints. So a size that was found is
found once, and a run that is killed and resumed takes every step with the size it would have had.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from trainyard.data.files import write_json
from trainyard.host.allocator import give_freed_memory_back
from trainyard.train.stopping import StartAnew

WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory", "bad_alloc", "bad allocation")
VAGUE = ("could not create a primitive", "could not create a memory object")  # oneDNN's words for several failures, this among them
T = TypeVar("T")
KINDS = ("training", "evaluation")


class OutOfMemory(RuntimeError):
    """Even one sample at a time does not fit."""


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA, MPS and CPU say it differently; where this process is held to a cap, a vague word counts as well."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, (RuntimeError, OSError)) and (_says(error, WORDS) or (_held() and _says(error, VAGUE)))


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    return any(word in str(error).lower() for word in words)


def halve(micro_batch: int) -> int:
    """The next size to try. The effective batch stays: more micro-batches are summed. Raises OutOfMemory below 1."""
    if micro_batch <= 1:
        raise OutOfMemory(
            "out of memory even with one sample at a time: use gradient checkpointing where the model offers it "
            "(options.gradient_checkpointing), a smaller subset (subset_size), smaller features or a smaller model, or a machine "
            "with more memory"
        )
    return (micro_batch + 1) // 2


class MemoryLadder:
    """Batch sizes by kind ("training": micro-batches, "evaluation") and step, kept in a file. `say` gets a line a rung."""

    def __init__(self, batch_size: int, path: str | os.PathLike, device: torch.device, say: Callable[[str], Any] = print):
        self.first = {"training": batch_size, "evaluation": 2 * batch_size}
        self.path, self.device, self.say = Path(path), device, say
        self.rungs: list[dict] = []
        if self.path.exists():
            try:
                self.rungs = [self._checked(rung) for rung in json.loads(self.path.read_text(encoding="utf-8"))]
            except (OSError, ValueError, TypeError, KeyError):
                self.rungs = []  # the sizes are found again

    def size(self, kind: str, step: int) -> int:
        """How many items fit at once at this step."""
        return min([self.first[kind]] + [r["size"] for r in self.rungs if r["kind"] == kind and r["step"] <= step])

    def fit(self, kind: str, step: int, work: Callable[[int], T]) -> T:
        """`work(size)`, from its beginning with half the size whenever memory runs out. Raises OutOfMemory below 1.

        Raises StartAnew when it ran out inside oneDNN, which then makes no kernel in this process any more: the error that its
        assembler (Xbyak) notes for the thread is never cleared.
        """
        while True:
            try:
                return work(self.size(kind, step))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                stuck = _says(error, VAGUE)
            self.lower(kind, step)  # outside of the handler: the error's traceback holds the tensors that filled the memory
            if stuck:
                let_go()
                raise StartAnew("oneDNN makes no kernel any more in a process where memory once ran out")

    def lower(self, kind: str, step: int) -> None:
        """Half the size from this step on, at once on disk. Raises OutOfMemory below 1."""
        size = halve(self.size(kind, step))
        free_cached(self.device)
        self.rungs.append({"kind": kind, "step": step, "size": size})
        write_json(self.path, self.rungs)
        what = "micro-batches" if kind == "training" else "evaluation batches"
        self.say(f"out of memory at step {step}: going on with {what} of {size}, same effective batch")

    @staticmethod
    def _checked(rung: dict) -> dict:
        if rung["kind"] not in KINDS or type(rung["step"]) is not int or type(rung["size"]) is not int or rung["size"] < 1:
            raise ValueError(rung)
        return rung


def free_cached(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _held() -> bool:
    if sys.platform != "linux":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def hold_to(megabytes: int) -> int | None:
    """Let this process keep at most that much memory of its own; beyond it allocations fail, where the kernel would kill.

    The limit is RLIMIT_DATA: private writable memory, so files that are mapped (packs) do not count, and neither does
    address space that was only set aside before. Linux alone enforces it; elsewhere nothing is done and None returned.
    Raises ValueError when the process holds more already.
    """
    import resource

    try:
        with open("/proc/self/status", encoding="ascii") as file:
            now = {name: int(kb) << 10 for name, kb in re.findall(r"^(VmData|RssAnon):\s+(\d+) kB", file.read(), re.M)}
        held = now["RssAnon"]
    except (OSError, KeyError, ValueError):
        return None
    if held > megabytes << 20:
        raise ValueError(
            f"mem_mb: {megabytes} MB are less than the {held >> 20} MB that the program itself takes; give more, or no cap_memory"
        )
    try:
        limit = (megabytes << 20) + now["VmData"] - held
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        give_freed_memory_back()  # before the limit, which counts what the allocator keeps
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    except (OSError, ValueError):
        return None
    return limit


def let_go() -> None:
    """Hold this process, and the one that takes its place, to no cap any more."""
    if _held():
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
