"""Running out of memory: recognising it, and halving the micro-batch."""

import torch

WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


class OutOfMemory(RuntimeError):
    """Even one sample at a time does not fit."""


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA, MPS and CPU say it differently."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS)


def halve(micro_batch: int) -> int:
    """The next size to try. The effective batch stays: more micro-batches are summed. Raises OutOfMemory below 1."""
    if micro_batch <= 1:
        raise OutOfMemory(
            "out of memory even with one sample at a time: use gradient checkpointing where the model offers it "
            "(options.gradient_checkpointing), smaller features or a smaller model, or a machine with more memory"
        )
    return (micro_batch + 1) // 2


def free_cached(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
