"""Rows, or bins of packed rows, as tensors.

Sequences are padded on the right: under a causal mask no token sees what follows it, so neither padding nor the other
sequences of a batch change a row's loss. Rows that share a bin are kept apart by positions that start at 0 with each,
and by a mask that lets a token see its own row only.
"""

import numpy as np
import torch
from torch import Tensor

from trainyard.data.chat_tokens import EncodedRows


def make_batch(encoded: EncodedRows, items: np.ndarray, pad: int, seeds: np.ndarray | None) -> dict[str, Tensor]:
    """`items` (n, k): the rows of each sequence, filled up with -1; k is 1 where nothing is packed.

    input_ids and labels (n, t) int64; scored (n, t) bool marks the answers' tokens, whose labels count; weight (n,)
    counts them. Packed, also position_ids and row (n, t), the row that each token is of, -1 for padding; in training
    seeds (n, t), what dropout draws from: the same for a row's tokens whatever else is in its bin.
    """
    bins = [line[line >= 0] for line in np.asarray(items)]
    lengths = encoded.lengths
    shape = len(bins), max(int(lengths[rows].sum()) for rows in bins)
    ids, labels = np.full(shape, pad, np.int64), np.full(shape, pad, np.int64)
    scored, positions, owner = np.zeros(shape, bool), np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    for i, rows in enumerate(bins):
        at = 0
        for row in rows:
            end = at + int(lengths[row])
            ids[i, at:end] = labels[i, at:end] = encoded.at(row)
            scored[i, at + max(1, int(encoded.prompt[row])) : end] = True  # nothing predicts the first token
            positions[i, at:end], owner[i, at:end] = np.arange(end - at), row
            at = end
    batch = {"input_ids": ids, "labels": labels, "scored": scored, "weight": scored.sum(1).astype(np.float32)}
    if np.shape(items)[1] > 1:
        batch |= {"position_ids": positions, "row": owner}
        if seeds is not None:
            batch["seeds"] = _token_seeds(seeds, positions, owner)
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def block_mask(row: Tensor, dtype: torch.dtype) -> Tensor:
    """Added to the attention scores, (n, 1, t, t): 0 where a token may look, which is back within its own row."""
    own = row[:, :, None] == row[:, None, :]
    looks = own & torch.ones(own.shape[-2:], dtype=torch.bool, device=row.device).tril()
    return torch.zeros(own.shape, dtype=dtype, device=row.device).masked_fill(~looks, torch.finfo(dtype).min)[:, None]


def _token_seeds(seeds: np.ndarray, positions: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """A seed for each token from its bin's seed, its row and its place in that row; (n, t) int64 ≥ 0."""
    with np.errstate(over="ignore"):
        z = np.asarray(seeds, np.uint64)[:, None] + owner.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + positions.astype(np.uint64)
        z = (z ^ (z >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(30))) >> np.uint64(1)).astype(np.int64)
