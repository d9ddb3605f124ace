"""groove_predictor: two bars of a drum grid and the tempo → how loud each hit is and how far off the grid.

The task is the humanisation of Gillick et al. 2019, "Learning to Groove with Inverse Sequence Transformations"
(https://arxiv.org/abs/1905.06118); the body is a small transformer over the 32 sixteenths.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainyard.data.midi import DRUMS, OFFSET_UNIT
from trainyard.data.midi_items import GROOVE_STEPS, groove_items, groove_window
from trainyard.data.predictions import PartOutput
from trainyard.models.base import TrainyardModel
from trainyard.models.layers import Transformer, number_dropouts


class GroovePredictor(TrainyardModel):
    """Trained on velocity and offset in units of their own spread, equally weighted."""

    mean: Tensor
    spread: Tensor

    def __init__(self, options: Any, mean: Tensor, spread: Tensor):
        """mean, spread (2,): of velocity (0–127) and offset (steps) over the training hits."""
        super().__init__()
        self.embed = nn.Linear(len(DRUMS) + 1, options.width)
        self.order = nn.Parameter(torch.randn(1, GROOVE_STEPS, options.width) * 0.02)
        self.body = Transformer(options.width, options.layers, options.heads, 2 * options.width)
        self.out = nn.Linear(options.width, 2 * len(DRUMS))
        self.register_buffer("mean", mean.float())
        self.register_buffer("spread", spread.float())
        number_dropouts(self)

    @classmethod
    def from_pack(cls, options: Any, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> "GroovePredictor":
        hits = np.concatenate([pack.at("hits", row)[:, 2:] for row in rows] or [np.zeros((0, 2))]) / [1, OFFSET_UNIT]
        mean, spread = (hits.mean(0), hits.std(0)) if len(hits) else (np.array([80.0, 0.0]), np.ones(2))
        # Machine drums have one velocity, or no offset at all: then there is nothing to scale.
        return cls(options, torch.from_numpy(mean), torch.from_numpy(np.maximum(spread, [1.0, 0.01])))

    def items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        return groove_items(pack, rows)

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        """hit (n, 32, 8) float32; played (n, 32, 8, 2): velocity and offset; tempo (n,)."""
        windows = [groove_window(pack, item) for item in items]
        hit = torch.from_numpy(np.stack([w[0] for w in windows])).float()
        played = torch.from_numpy(np.stack([w[1] for w in windows]))
        tempo = torch.tensor([w[2] for w in windows], dtype=torch.float32)
        return {"hit": hit, "played": played, "tempo": tempo, "weight": hit.sum((1, 2))}

    def forward(self, hit: Tensor, tempo: Tensor) -> Tensor:
        """hit (n, 32, 8), tempo (n,) → velocity and offset (n, 32, 8, 2) in standard deviations from their mean."""
        pace = ((tempo - 120) / 40).clamp(-3, 3)[:, None, None].expand(-1, hit.shape[1], 1)
        x = self.body(self.embed(torch.cat([hit, pace], -1)) + self.order)
        return self.out(x).view(*hit.shape, 2)

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        wanted = (batch["played"] - self.mean) / self.spread
        error = (self(batch["hit"], batch["tempo"]) - wanted) ** 2
        return (error.mean(-1) * batch["hit"]).sum((1, 2))

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        """Velocity (0–127) and offset (steps) of the hits of each window, by step, then drum."""
        out = (self(batch["hit"], batch["tempo"]) * self.spread + self.mean).cpu().numpy()
        hit, played = batch["hit"].bool().cpu().numpy(), batch["played"].cpu().numpy()
        return {
            name: PartOutput.values([p[h, k] for p, h in zip(played, hit)], [o[h, k] for o, h in zip(out, hit)])
            for k, name in enumerate(("velocity", "offset"))
        }
