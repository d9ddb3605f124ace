"""What a run needs, and whether the machine at hand has it: asked in preflight, and again in a second where training starts."""

import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from trainyard.data.storage import free_bytes, size
from trainyard.host.gpus import driver_gpus, torch_cuda
from trainyard.host.resources import memory
from trainyard.train.check import Check, fail, ok, warn
from trainyard.train.progress import peak_memory_mb
from trainyard.train.storage_checks import check_mounts

MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class Needs:
    """What one run needs at its peak. memory_mb: of the device, measured at micro-batches of `micro_batch`; gpus: asked for in the
    configuration; mem_mb: promised to the scheduler (0: unknown)."""

    checkpoint_bytes: int
    memory_mb: float
    micro_batch: int
    device: str
    gpus: int = 0
    mem_mb: int = 0


def check_machine(needs: Needs, packs: Mapping[str, str], checkpoints: Path, place: torch.device) -> list[Check]:
    """Everything about the machine: mounts, device, memory, disk for the one run that keeps its checkpoints in that folder."""
    held = sum(f.stat().st_size for f in checkpoints.glob("*.safetensors"))
    out = [
        *check_mounts(packs, checkpoints),
        check_device(needs, place),
        check_disk(needs.checkpoint_bytes - held, checkpoints, "this run"),
    ]
    # What a CPU holds says nothing of a GPU.
    return [*out, check_memory(needs, place)] if needs.device == place.type else out


def check_device(needs: Needs, place: torch.device) -> Check:
    """The device that is used; a GPU that is there is used, and one that was asked for is there."""
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "Apple GPU" if place.type == "mps" else _processor()
    if place.type == "cpu" and needs.gpus:
        why = "torch was built without CUDA" if driver_gpus() and not torch_cuda() else "there is none here"
        advice = "run it on a machine with a GPU, or say `gpu: 0` for the model to train on the CPU (nothing is trained again for that)"
        return fail("device", f"{needs.gpus} GPU asked for; {why}", "a GPU", advice).of_machine()
    if place.type == "cpu" and shutil.which("nvidia-smi") and driver_gpus() and not torch_cuda():
        advice = "install torch with CUDA: rm -rf .venv .setup && make setup"
        return warn("device", f"{name}, though there is a {driver_gpus()[0].model}", "the GPU", advice).of_machine()
    if needs.device != place.type and needs.device:
        advice = "times and memory were measured elsewhere; delete the preflight's file to measure them here"
        return warn("device", f"{name}; preflight ran on {needs.device}", needs.device, advice).of_machine()
    return ok("device", f"{name}").of_machine()


def check_memory(needs: Needs, place: torch.device) -> Check:
    """Peak need against what can still be had on the device."""
    there, words = _device_memory(place)
    value, limit = f"{needs.memory_mb:,.0f} MB at its peak", f"{MEMORY_SHARE * there:,.0f} MB {words}"
    if needs.memory_mb > MEMORY_SHARE * there:
        advice = (
            "lower batch_size, turn on gradient_checkpointing where the model has it, run fewer jobs at once, or use a machine with more"
        )
        return fail("memory", value, limit, advice).of_machine()
    if place.type == "cpu" and 0 < needs.mem_mb < needs.memory_mb:
        advice = f"set mem_mb: {round(1.2 * needs.memory_mb, -2):.0f} for the model, or a scheduler may end it"
        return warn("memory", value, f"{needs.mem_mb:,} MB promised by mem_mb", advice).of_machine()
    return ok("memory", value, limit).of_machine()


def check_disk(need: int, checkpoints: str | Path, whose: str) -> Check:
    """Room for checkpoints that are still to be written."""
    free, need = free_bytes(checkpoints), max(0, need)
    value, limit = f"{size(need)} for the checkpoints of {whose}", f"{size(free)} free"
    if need > free:
        return fail("disk", value, limit, f"{size(need - free)} are missing: make room or lower checkpoint.keep").of_machine()
    if need > free / 2:
        return warn("disk", value, limit, "more than half of what is free: make room").of_machine()
    return ok("disk", value, limit).of_machine()


def _device_memory(place: torch.device) -> tuple[float, str]:
    """MB that this process may come to hold on a device, what it holds already included."""
    if place.type == "cuda":
        return (torch.cuda.mem_get_info(place)[0] + torch.cuda.memory_reserved(place)) / 2**20, "free on the GPU"
    here = memory()
    return min(here.free + peak_memory_mb(), here.total), "allowed by the control group" if here.limited else "free"


def _processor() -> str:
    cores = torch.get_num_threads()
    return f"{'Apple' if sys.platform == 'darwin' else platform.machine()} CPU, {cores} thread{'s' if cores > 1 else ''}"
