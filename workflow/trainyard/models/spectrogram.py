"""What the models on log-mel frames share: a batch from a pack, a convolution block, pooling over real frames."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainyard.models.layers import group_norm

STATISTICS_ROWS = 512


def statistics_rows(rows: np.ndarray) -> np.ndarray:
    """At most 512 rows, evenly spaced: enough for means and spreads, whatever the size of the data."""
    return np.sort(np.asarray(rows))[:: max(1, -(-len(rows) // STATISTICS_ROWS))]


def centred(mel: np.ndarray, frames: int) -> np.ndarray:
    """A clip's log-mel (frames, mels) less its mean over real frames and bands; padding becomes 0, the mean."""
    out = mel.astype(np.float32)
    out[:frames] -= out[:frames].mean()
    out[frames:] = 0
    return out


def centred_spread(pack, rows: np.ndarray) -> float:
    """Standard deviation of centred clips over their real frames."""
    mel, frames = pack.fixed("mel"), pack.fixed("frames")
    squares, count = 0.0, 0
    for row in statistics_rows(rows):
        real = int(frames[row])
        squares += float(np.square(centred(mel[row], real)).sum())
        count += real * mel.shape[2]
    return max((squares / max(count, 1)) ** 0.5, 1e-3)


def hide_bands(clip: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Set `count` neighbouring bands of a centred clip (frames, mels) to its mean, as SpecAugment does."""
    at = int(rng.integers(max(1, clip.shape[1] - count + 1)))
    clip[:, at : at + count] = 0


class ConvBlock(nn.Module):
    """3 × 3 convolution, GroupNorm (https://arxiv.org/abs/1803.08494) and ReLU."""

    def __init__(self, inside: int, outside: int, stride: tuple[int, int]):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm = group_norm(outside)

    def forward(self, x: Tensor) -> Tensor:
        """x (n, channels, mels, frames)"""
        return torch.relu(self.norm(self.conv(x)))


def blocks(channels: Sequence[int], strides: Sequence[tuple[int, int]]) -> nn.ModuleList:
    return nn.ModuleList(ConvBlock(a, b, s) for a, b, s in zip(channels, channels[1:], strides))


def real_steps(frames: Tensor, stride: int, steps: int) -> Tensor:
    """Which of `steps` time steps begin within the real frames, (n, 1, steps) bool; at least the first does."""
    at = torch.arange(steps, device=frames.device) * stride
    return (at < frames.clamp(min=1)[:, None])[:, None]


def mean_and_max(x: Tensor, real: Tensor) -> Tensor:
    """x (n, channels, steps) pooled over real steps, (n, 2 · channels)."""
    mean = (x * real).sum(2) / real.sum(2)
    return torch.cat([mean, x.masked_fill(~real, float("-inf")).amax(2)], 1)


def mean_and_spread(x: Tensor, real: Tensor) -> Tensor:
    """x (n, channels, steps) pooled over real steps, (n, 2 · channels): statistics pooling.

    https://www.danielpovey.com/files/2018_icassp_xvectors.pdf
    """
    count = real.sum(2)
    mean = (x * real).sum(2) / count
    variance = (((x - mean[:, :, None]) * real) ** 2).sum(2) / count
    return torch.cat([mean, (variance + 1e-5).sqrt()], 1)
