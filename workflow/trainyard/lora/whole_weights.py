"""What an adapter holds beside its factors: weights trained whole (modules_to_save, biases), and biases of the factors.

Weights that sum to 1 make the mean of whole weights the base plus the mean of their updates, so it is exact without the
base. Strategies on the values would need the base's own weights, and refuse.
"""

from typing import Any

import numpy as np

from trainyard.lora.adapter import Adapter
from trainyard.lora.adapter_config import CONFIG, AdapterError
from trainyard.lora.compatible import same_numbers
from trainyard.lora.number_types import decode, encode
from trainyard.lora.tensor_writer import TensorWriter

BLOCK = 1 << 20


def refuse_whole_weights(adapters: list[Adapter], strategy: str) -> None:
    """Raises AdapterError for adapters that a strategy on the values cannot merge."""
    first = adapters[0]
    biases = any("bias" in parts for parts in first.modules.values())
    if first.trained or biases:
        config = first.config
        field = "lora_bias" if biases else "modules_to_save" if config.get("modules_to_save") else "bias"
        raise AdapterError(
            f"{first.folder / CONFIG}: {field}: '{strategy}' works on the factors' products alone; use --strategy average or weighted"
        )


def merge_biases(adapters: list[Adapter], shares: np.ndarray, module: str) -> np.ndarray:
    """The weighted sum of the scaled biases of lora_B, (out,), float64."""
    return sum(
        share * adapter.scale(module) * adapter.array(adapter.modules[module]["bias"]).astype(np.float64)
        for adapter, share in zip(adapters, shares)
    )  # type: ignore[return-value]


def write_whole(writer: TensorWriter, adapters: list[Adapter], shares: np.ndarray, name: str) -> dict[str, Any]:
    """Write the weighted mean of a whole tensor in its own type, block by block; what was done and how much rounding changed."""
    flat = [adapter.raw(name).reshape(-1) for adapter in adapters]
    kinds = [adapter.tensors[name].dtype for adapter in adapters]
    same, squares, error = same_numbers(adapters, name), 0.0, 0.0
    for start in range(0, len(flat[0]), BLOCK):
        blocks = [decode(x[start : start + BLOCK], kind).astype(np.float64) for x, kind in zip(flat, kinds)]
        for adapter, block in zip(adapters, blocks):
            adapter.refuse_not_finite(name, block)
        mean = sum(share * block for share, block in zip(shares, blocks))
        stored = flat[0][start : start + BLOCK] if same else encode(mean, kinds[0])
        writer.write(stored)
        squares += float(np.vdot(mean, mean))
        if not same:
            change = decode(stored, kinds[0]).astype(np.float64) - mean
            error += float(np.vdot(change, change))
    return {"made": "the same in all" if same else "weighted mean", "rounding_error": (error / squares) ** 0.5 if squares else 0.0}
