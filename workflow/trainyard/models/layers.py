"""Layers shared by the architectures."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SEEDS: list[Tensor | None] = [None]


@contextmanager
def sample_seeds(seeds: Tensor | None) -> Iterator[None]:
    """The seeds of the items in the batch (or of their parts), int64, for SampleDropout, during forward and backward."""
    _SEEDS.append(seeds)
    try:
        yield
    finally:
        _SEEDS.pop()


class SampleDropout(nn.Module):
    """Dropout whose mask depends on the item's seed and this layer alone.

    So an item gets the same mask in a batch of 16, in two of 8, and after a resume: torch's own generator gives
    none of that. The bits are splitmix64's finaliser over (seed, layer, element): https://prng.di.unimi.it/splitmix64.c
    """

    def __init__(self, p: float):
        super().__init__()
        self.p, self.salt = p, 0

    def forward(self, x: Tensor) -> Tensor:
        """x (n·k, …) for n seeds; each seed's k rows follow each other."""
        seeds = _SEEDS[-1]
        if not self.training or self.p == 0:
            return x
        if seeds is None:
            raise RuntimeError("SampleDropout in training needs `with sample_seeds(seeds):` around forward and backward")
        seeds = seeds.flatten()
        per = x.numel() // len(seeds)
        element = torch.arange(per, device=x.device, dtype=torch.int64)
        z = (seeds.to(x.device) * 0x9E3779B97F4A7C1 + self.salt * 0x632BE59BD9B4E019 % (1 << 63))[:, None] + element * 0x1E3779B97F4A7C15
        z = (z ^ (z >> 30)) * -0x40A7B892E31B1A47
        z = (z ^ (z >> 27)) * -0x6B2FB644ECCEEE15
        keep = ((z ^ (z >> 31)) & 0xFFFFFF) >= int(self.p * 0x1000000)
        return x * keep.view(x.shape).to(x.dtype) / (1 - self.p)


def number_dropouts(model: nn.Module) -> None:
    """Give every SampleDropout of a model its own salt, by its place in the model."""
    for i, layer in enumerate(m for m in model.modules() if isinstance(m, SampleDropout)):
        layer.salt = i + 1


def group_norm(channels: int, groups: int = 4) -> nn.GroupNorm:
    """GroupNorm with the largest number of groups up to `groups` that divides the channels."""
    return nn.GroupNorm(math.gcd(channels, groups), channels)


def halved(size: int, times: int = 1) -> int:
    """A side's length after that many convolutions of stride 2 whose padding keeps the size."""
    for _ in range(times):
        size = -(-size // 2)
    return size


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward (https://arxiv.org/abs/2002.04745)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.0):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ff1, self.ff2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.drop1, self.drop2 = SampleDropout(dropout), SampleDropout(dropout)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """x (n, t, width)"""
        q, k, v = self._heads(self.norm1(x))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.drop1(self.proj(a.transpose(1, 2).flatten(2)))
        return x + self.drop2(self.ff2(F.gelu(self.ff1(self.norm2(x)))))

    def attention(self, x: Tensor, causal: bool = False) -> Tensor:
        """Attention weights (n, heads, t, t) of this block for its input, for pictures."""
        q, k, _ = self._heads(self.norm1(x))
        w = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if causal:
            w = w.masked_fill(torch.ones(w.shape[-2:], dtype=torch.bool, device=w.device).triu(1), float("-inf"))
        return w.softmax(-1)

    def _heads(self, x: Tensor) -> list[Tensor]:
        n, t, _ = x.shape
        return [y.view(n, t, self.heads, -1).transpose(1, 2) for y in self.qkv(x).chunk(3, -1)]


class Transformer(nn.Module):
    """Blocks and a final LayerNorm."""

    def __init__(self, width: int, layers: int, heads: int, hidden: int, dropout: float = 0.0):
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """x (n, t, width)"""
        for block in self.blocks:
            x = block(x, causal)
        return self.norm(x)
