"""What every video extractor is: the clip of one camera in, one feature vector out."""

from abc import ABC, abstractmethod
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from trainyard.models.layers import Transformer, TransformerBlock, group_norm


class BaseExtractor(nn.Module, ABC):
    """A clip (n, 3, frames, size, size), its mean colour taken out, to a feature vector (n, feature_dim).

    Extractors keep where things are until their last layer: averaged over space (as the papers do for classes),
    a feature vector no longer knows the position that it is asked for.
    """

    def __init__(self, options: Any, frames: int, size: int):
        """`options`: the frozen options of the architecture; `frames` and `size` (pixels): those of every clip."""
        super().__init__()
        self.feature_dim, self.frames, self.size = options.feature_dim, frames, size

    @abstractmethod
    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (n, feature_dim), and an extra loss of every clip (n,) where the architecture has one."""

    def attention_maps(self, clips: Tensor) -> list[Tensor]:
        """Attention weights of every layer, (n, heads, tokens, tokens). Raises TypeError where there is no attention."""
        raise TypeError(f"{type(self).__name__} has no attention")

    @property
    def token_grid(self) -> tuple[int, int, int]:
        """How tokens lie in time, rows and columns. Raises TypeError where there are no tokens."""
        raise TypeError(f"{type(self).__name__} has no tokens")


class ConvBlock(nn.Module):
    """3D convolution, GroupNorm, ReLU. Padding keeps the size, up to the stride."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)):
        super().__init__()
        t, h, w = kernel
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, (t // 2, h // 2, w // 2), bias=False)
        self.norm = group_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x (n, inputs, t, h, w)"""
        return F.relu(self.norm(self.conv(x)))


def attention_of(encoder: Transformer, tokens: Tensor) -> list[Tensor]:
    """Attention weights of every block for the tokens (n, t, width) that enter the first: (n, heads, t, t) each."""
    maps = []
    for block in encoder.blocks:
        assert isinstance(block, TransformerBlock)
        maps.append(block.attention(tokens))
        tokens = block(tokens)
    return maps
