"""What a transformer extractor looks at, for a few samples: small arrays for the report's pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainyard.data.pack import PackWriter
from trainyard.data.views import View
from trainyard.models.unified import UnifiedModel

SAMPLES = 4
CAMERA = 0


def write_attention(model: UnifiedModel, view: View, output: Path, about: dict[str, Any]) -> int:
    """A pack with a row a sample, the first of each class; returns how many.

    frames (t, 3, h, w) uint8 of the first camera; received (layers, tokens): the attention that a token gets, mean over heads and
    over all tokens that look, so that it sums to 1; between (layers, steps, steps): from a time step (row) to another (column).
    """
    model.eval()
    labelled = model.items(view.pack, view.rows)[:, 0]
    rows = labelled[np.unique(np.asarray(view.pack.fixed("label"))[labelled], return_index=True)[1][:SAMPLES]]
    batch = model.collate(view.pack, rows[:, None], None)
    with torch.no_grad():
        maps = torch.stack([m[:, CAMERA].mean(1) for m in model.attention_maps(batch)], dim=1)  # (n, layers, tokens, tokens)
        told = model(batch)[0].argmax(1)
    grid = model.extractor.token_grid
    received, between = maps.mean(2), _between_steps(maps, grid[0])
    classes = list(view.pack.meta["classes"])
    with PackWriter(output, {"format": "attention", "grid": list(grid), **about}) as writer:
        for i, row in enumerate(rows):
            fixed = {"frames": batch["video"][i, CAMERA].numpy(), "received": received[i].numpy(), "between": between[i].numpy()}
            names = {"id": view.pack.text("id", int(row)), "true": classes[int(batch["label"][i])], "told": classes[int(told[i])]}
            writer.add(fixed, names)
    return len(rows)


def _between_steps(maps: Tensor, steps: int) -> Tensor:
    """maps (n, layers, tokens, tokens), tokens by time first, to (n, layers, steps, steps); rows sum to 1."""
    n, layers, tokens, _ = maps.shape
    place = tokens // steps
    return maps.view(n, layers, steps, place, steps, place).sum(5).mean(3)
