"""Self-attention over the frames of a clip: one token a frame, from a small convolutional stem.

Sources: self-attention over per-frame features of a convolutional network, https://arxiv.org/abs/2102.00719 (Video
Transformer Network); pre-norm blocks, https://arxiv.org/abs/2002.04745. Instead of a class token, whose one vector
would have to hold the whole path, a linear layer over all frames' tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn

from trainyard.models.base_extractor import BaseExtractor, attention_of
from trainyard.models.layers import Transformer, group_norm, halved
from trainyard.models.unified import UnifiedModel


class FrameTransformerExtractor(BaseExtractor):
    """Frames to tokens, attention over time, linear over all tokens."""

    def __init__(self, options: Any, frames: int, size: int):
        super().__init__(options, frames, size)
        width, tokens = options.width, options.token_width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2), group_norm(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), group_norm(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, width, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.token = nn.Linear(width * halved(size, 3) ** 2, tokens)
        self.place = nn.Parameter(torch.randn(frames, tokens) * 0.02)
        self.encoder = Transformer(tokens, options.layers, options.heads, 2 * tokens)
        self.out = nn.Linear(tokens * frames, options.feature_dim)

    def forward(self, clips: Tensor) -> tuple[Tensor, None]:
        return self.out(self.encoder(self._tokens(clips)).flatten(1)), None

    def attention_maps(self, clips: Tensor) -> list[Tensor]:
        return attention_of(self.encoder, self._tokens(clips))

    @property
    def token_grid(self) -> tuple[int, int, int]:
        return self.frames, 1, 1

    def _tokens(self, clips: Tensor) -> Tensor:
        """(n, frames, token_width)"""
        n = len(clips)
        frames = self.stem(clips.transpose(1, 2).flatten(0, 1))
        return self.token(frames.flatten(1)).view(n, self.frames, -1) + self.place


class FrameTransformer(UnifiedModel):
    """The frame transformer with the multi-task head."""

    extractor_class = FrameTransformerExtractor
