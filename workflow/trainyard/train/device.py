"""Which device a run uses, and how it is set up."""

import contextlib
import os

import torch


def choose_device(wanted: str = "auto") -> torch.device:
    """`auto`: CUDA, then Apple's MPS, then the CPU. Raises ValueError when the wanted one is not there."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"--device {wanted}: no such device; it is auto, cpu, cuda, cuda:1 or mps")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this torch sees no CUDA device; use --device cpu, or install a CUDA build of torch")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--device mps: this machine has no MPS device; use --device cpu")
    return device


def set_up(device: torch.device, threads: int, seed: int) -> None:
    """Threads, seed and deterministic kernels, before any tensor is made."""
    torch.set_num_threads(threads)
    with contextlib.suppress(RuntimeError):  # it can be said once a process
        torch.set_num_interop_threads(1)
    torch.manual_seed(seed)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
