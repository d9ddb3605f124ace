"""SlowFast: a slow pathway for what is there, a fast one for how it moves. Source: https://arxiv.org/abs/1812.03982

Kept: the slow pathway sees every alpha-th frame with many channels, the fast one all frames with a share beta of the
channels and no stride in time; lateral connections carry the fast into the slow by convolutions of 5×1×1 and stride
alpha with twice the channels. Smaller: three stages without residual bottlenecks. Instead of the global average
1×1×1 convolutions and a linear layer over all places, and GroupNorm for BatchNorm.
"""

from typing import Any

import torch
from torch import Tensor, nn

from trainyard.models.base_extractor import BaseExtractor, ConvBlock
from trainyard.models.layers import halved
from trainyard.models.unified import UnifiedModel


class SlowFastExtractor(BaseExtractor):
    """Three stages of both pathways; the size is halved by each."""

    def __init__(self, options: Any, frames: int, size: int):
        super().__init__(options, frames, size)
        slow, fast, self.alpha = options.width, max(4, round(options.width * options.beta)), options.alpha
        half = (1, 2, 2)
        self.slow1, self.fast1 = ConvBlock(3, slow, (1, 5, 5), half), ConvBlock(3, fast, (5, 5, 5), half)
        self.slow2, self.fast2 = ConvBlock(slow + 2 * fast, 2 * slow, (1, 3, 3), half), ConvBlock(fast, 2 * fast, (3, 3, 3), half)
        self.slow3, self.fast3 = ConvBlock(2 * slow + 4 * fast, 2 * slow, (3, 3, 3), half), ConvBlock(2 * fast, 2 * fast, (3, 3, 3), half)
        self.across1, self.across2 = self._lateral(fast), self._lateral(2 * fast)
        self.squeeze_slow, self.squeeze_fast = nn.Conv3d(2 * slow, slow, 1), nn.Conv3d(2 * fast, fast, 1)
        places = halved(size, 3) ** 2
        self.out = nn.Linear(places * (slow * -(-frames // self.alpha) + fast * frames), options.feature_dim)

    def _lateral(self, channels: int) -> nn.Conv3d:
        return nn.Conv3d(channels, 2 * channels, (5, 1, 1), (self.alpha, 1, 1), (2, 0, 0))

    def forward(self, clips: Tensor) -> tuple[Tensor, None]:
        slow, fast = self.slow1(clips[:, :, :: self.alpha]), self.fast1(clips)
        slow, fast = self.slow2(torch.cat([slow, self.across1(fast)], 1)), self.fast2(fast)
        slow, fast = self.slow3(torch.cat([slow, self.across2(fast)], 1)), self.fast3(fast)
        return self.out(torch.cat([self.squeeze_slow(slow).flatten(1), self.squeeze_fast(fast).flatten(1)], 1)), None


class SlowFast(UnifiedModel):
    """SlowFast with the multi-task head."""

    extractor_class = SlowFastExtractor
