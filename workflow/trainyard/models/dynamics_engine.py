"""dynamics_engine: from what every frame of a voice sounds like, its gain removed, to how loud it was sung.

Dilated convolutions over frames with residual sums (https://arxiv.org/abs/1803.01271), GroupNorm before each.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard.config.architectures import DynamicsOptions
from trainyard.data.audio import colour
from trainyard.data.predictions import PartOutput
from trainyard.models.base import TrainyardModel
from trainyard.models.gather import gather
from trainyard.models.layers import group_norm
from trainyard.models.spectrogram import statistics_rows


class DynamicsEngine(TrainyardModel):
    colour_mean: Tensor
    colour_spread: Tensor
    loudness_mean: Tensor
    loudness_spread: Tensor

    def __init__(self, options: DynamicsOptions, mels: int):
        super().__init__()
        w = options.width
        self.register_buffer("colour_mean", torch.zeros(mels))
        self.register_buffer("colour_spread", torch.tensor(1.0))
        self.register_buffer("loudness_mean", torch.tensor(0.0))
        self.register_buffer("loudness_spread", torch.tensor(1.0))
        self.inside = nn.Conv1d(mels, w, 3, 1, 1)
        self.norms = nn.ModuleList(group_norm(w) for _ in range(options.layers))
        self.convs = nn.ModuleList(nn.Conv1d(w, w, 3, 1, 2**k, 2**k) for k in range(options.layers))
        self.outside = nn.Conv1d(w, 1, 1)

    @classmethod
    def from_pack(cls, options: DynamicsOptions, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> Self:
        model = cls(options, pack.fixed("mel").shape[2])
        mel, frames, loudness = pack.fixed("mel"), pack.fixed("frames"), pack.fixed("loudness")
        rows = statistics_rows(rows)
        tone = np.concatenate([colour(mel[r][: frames[r]]) for r in rows])
        level = np.concatenate([loudness[r][: frames[r]] for r in rows])
        model.colour_mean.copy_(torch.from_numpy(tone.mean(0)))
        model.colour_spread.fill_(max(float((tone - tone.mean(0)).std()), 1e-3))
        model.loudness_mean.fill_(float(level.mean()))
        model.loudness_spread.fill_(max(float(level.std()), 1e-3))
        return model

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        """colour (n, frames, mels), loudness (n, frames) in dB, frames (n,), weight (n,): the real frames"""
        rows = items[:, 0]
        frames = np.asarray(pack.fixed("frames"))[rows].astype(np.int64)
        return {
            "colour": torch.from_numpy(colour(gather(pack.fixed("mel"), rows).numpy())),
            "loudness": gather(pack.fixed("loudness"), rows),
            "frames": torch.from_numpy(frames),
            "weight": torch.from_numpy(frames.astype(np.float32)),
        }

    def forward(self, tone: Tensor, frames: Tensor) -> Tensor:
        """tone (n, frames, mels), frames (n,) -> loudness (n, frames), standardised"""
        real = _real(frames, tone.shape[1])
        x = ((tone - self.colour_mean) / self.colour_spread * real[:, :, None]).transpose(1, 2)
        x = self.inside(x)
        for norm, conv in zip(self.norms, self.convs):
            x = x + conv(F.gelu(norm(x)))
        return self.outside(x)[:, 0]

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        target = (batch["loudness"] - self.loudness_mean) / self.loudness_spread
        error = (self(batch["colour"], batch["frames"]) - target) ** 2
        return (error * _real(batch["frames"], error.shape[1])).sum(1)

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        level = self(batch["colour"], batch["frames"]) * self.loudness_spread + self.loudness_mean
        real = batch["frames"].tolist()
        cut = lambda rows: [row[:n] for row, n in zip(rows.float().cpu().numpy(), real)]  # noqa: E731
        return {"loudness": PartOutput.values(cut(batch["loudness"]), cut(level))}


def _real(frames: Tensor, steps: int) -> Tensor:
    """Which frames are not padding, (n, steps) bool."""
    return torch.arange(steps, device=frames.device) < frames[:, None]
