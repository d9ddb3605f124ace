"""GPUs that this process may use, asked of the driver: torch would take seconds, and would fix its choice of device.

NVIDIA's by nvidia-smi, each MIG instance for itself; Apple's one GPU. Others are left to torch.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import util
from pathlib import Path

LINE = re.compile(r"GPU (\d+): (.*) \(UUID: (GPU-[^)]+)\)")
INSTANCE = re.compile(r"\s+(MIG .*?)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG instance of one. `name` is what CUDA_VISIBLE_DEVICES calls it whatever the order: its UUID."""

    name: str
    model: str
    index: int
    kind: str = "cuda"


def usable_gpus(device: str = "auto") -> list[Gpu]:
    """The GPUs that a run with this --device would use: none for the CPU, none where torch was built without CUDA."""
    if device == "cpu":
        return []
    if sys.platform == "darwin":
        return [Gpu("apple", "Apple GPU", 0, "mps")] if platform.machine() == "arm64" and device in ("auto", "mps") else []
    if device == "mps" or not torch_cuda():
        return []
    gpus = visible(driver_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    number = device.partition(":")[2]
    return gpus[int(number) : int(number) + 1] if number.isdigit() else gpus


@cache
def driver_gpus() -> list[Gpu]:
    """Every GPU that the driver shows, by number on the bus. Empty without a driver that answers."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        done = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_list(done.stdout) if done.returncode == 0 else []


def parse_list(text: str) -> list[Gpu]:
    """What `nvidia-smi -L` says. A GPU cut into MIG instances is used by these alone."""
    gpus: list[Gpu] = []
    whole: Gpu | None = None
    for line in text.splitlines():
        if found := LINE.match(line):
            whole = Gpu(found[3], found[2], int(found[1]))
            gpus.append(whole)
        elif (found := INSTANCE.match(line)) and whole is not None:
            if gpus[-1] is whole:
                gpus.pop()
            gpus.append(Gpu(found[2], f"{whole.model}, {found[1]}", whole.index))
    return gpus


def visible(gpus: list[Gpu], setting: str | None) -> list[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order: numbers or beginnings of UUIDs, up to the first that names none."""
    if setting is None:
        return gpus
    out: list[Gpu] = []
    for token in (part.strip() for part in setting.split(",")):
        by_number = token.isdigit()
        named = [g for g in gpus if (g.index == int(token) if by_number else token and g.name.startswith(token))]
        if not named:
            break
        out += [g for g in named if g not in out]
    return out


@cache
def torch_cuda() -> str | None:
    """The CUDA version torch was built for, from its version file: importing torch takes seconds."""
    spec = util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    text = (Path(spec.submodule_search_locations[0]) / "version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=]*=\s*'([^']+)'", text, re.MULTILINE)
    return match[1] if match else None
