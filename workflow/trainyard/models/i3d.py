"""I3D: an Inception network whose kernels were inflated into time. Source: https://arxiv.org/abs/1705.07750

Kept: the inflated stem, Inception modules of four branches (1×1×1; two of 1×1×1 then 3×3×3; pooling then 1×1×1), and
pooling that spares time at first. Smaller: two modules instead of nine. Instead of the global average a 1×1×1
convolution and a linear layer over all places, and GroupNorm for BatchNorm.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard.models.base_extractor import BaseExtractor, ConvBlock
from trainyard.models.layers import halved
from trainyard.models.unified import UnifiedModel


class Inception(nn.Module):
    """An inflated Inception module: x (n, inputs, t, h, w) to (n, outputs, t, h, w); outputs in multiples of 8."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        eighth = outputs // 8
        self.point = ConvBlock(inputs, 2 * eighth, (1, 1, 1))
        self.wide = nn.Sequential(ConvBlock(inputs, 2 * eighth, (1, 1, 1)), ConvBlock(2 * eighth, 3 * eighth, (3, 3, 3)))
        self.narrow = nn.Sequential(ConvBlock(inputs, eighth, (1, 1, 1)), ConvBlock(eighth, eighth, (3, 3, 3)))
        self.pooled = nn.Sequential(nn.MaxPool3d(3, 1, 1), ConvBlock(inputs, outputs - 6 * eighth, (1, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.point(x), self.wide(x), self.narrow(x), self.pooled(x)], 1)


class I3DExtractor(BaseExtractor):
    """Stem, two Inception modules with pooling between, linear over channels and places."""

    def __init__(self, options: Any, frames: int, size: int):
        super().__init__(options, frames, size)
        width = -(-options.width // 4) * 4
        self.stem = ConvBlock(3, width, (3, 5, 5), (1, 2, 2))
        self.first, self.second = Inception(width, 2 * width), Inception(2 * width, 4 * width)
        self.squeeze = nn.Conv3d(4 * width, width, 1)
        places = halved(frames) * halved(size, 3) ** 2
        self.out = nn.Linear(width * places, options.feature_dim)

    def forward(self, clips: Tensor) -> tuple[Tensor, None]:
        # Channels last: the only order of memory in which pooling is fast on CPUs (a third of a step less).
        x = clips.contiguous(memory_format=torch.channels_last_3d)
        x = F.max_pool3d(self.stem(x), (1, 2, 2), ceil_mode=True)  # size / 4, all frames
        x = F.max_pool3d(self.first(x), 2, ceil_mode=True)  # size / 8, half the frames
        return self.out(self.squeeze(self.second(x)).flatten(1)), None


class I3D(UnifiedModel):
    """I3D with the multi-task head."""

    extractor_class = I3DExtractor
