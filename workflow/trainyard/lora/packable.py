"""Whether a base keeps rows that share a sequence apart: asked of its settings, then tried on two short rows."""

import inspect
from typing import Any

import torch

from trainyard.lora.batches import block_mask

# Logits may differ by this share of the largest: sums are made in another order, coarser in bfloat16.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 0.05, torch.float16: 0.01}


def check_packing(model: Any, base: str, max_length: int) -> None:
    """Raises ValueError, with the reason, for a model that would let one packed row change another."""
    why = _by_settings(model, max_length) or _by_trial(model)
    if why:
        raise ValueError(f"{base}: rows cannot be packed for this model ({type(model).__name__}): {why}; set options.packing to false")


def _by_settings(model: Any, max_length: int) -> str:
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "it takes no position_ids, so positions could not start anew with each row"
    for name in ("sliding_window", "attention_chunk_size"):
        window = getattr(model.config.get_text_config(), name, None)
        if window and window < max_length:
            return f"its {name}, {window}, is shorter than max_length {max_length}, and the mask of packed rows replaces it"
    return ""


@torch.no_grad()
def _by_trial(model: Any) -> str:
    """Two rows of made-up tokens, together and alone; then the first is changed."""
    model.eval()
    device = model.get_input_embeddings().weight.device
    size = model.get_input_embeddings().num_embeddings
    first, other, second = (torch.arange(n, device=device) * step % size for n, step in ((5, 7), (5, 11), (8, 13)))
    try:
        together, changed = _logits(model, [first, second]), _logits(model, [other, second])
    except (ValueError, RuntimeError, TypeError, IndexError, AttributeError, AssertionError) as error:
        return f"it does not take a mask of blocks: {' '.join(str(error).split())[:200]}"
    alone = torch.cat([model(input_ids=row[None], use_cache=False).logits[0] for row in (first, second)])
    limit = TOLERANCE.get(alone.dtype, 0.01) * float(alone.abs().max())
    if float((changed[5:] - together[5:]).abs().max()) > limit:
        return "a row's logits changed with the other row of its sequence"
    if not float((together - alone).abs().max()) <= limit:
        return "a row's logits are others than when it is alone"
    return ""


def _logits(model: Any, rows: list[torch.Tensor]) -> torch.Tensor:
    owner = torch.cat([torch.full_like(row, i) for i, row in enumerate(rows)])[None]
    positions = torch.cat([torch.arange(len(row), device=row.device) for row in rows])[None]
    mask = block_mask(owner, model.get_input_embeddings().weight.dtype)
    return model(input_ids=torch.cat(rows)[None], position_ids=positions, attention_mask=mask, use_cache=False).logits[0]
