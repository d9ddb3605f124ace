"""MagViT: a video tokenizer with lookup-free binary codes, and attention over its 3D tokens.

Sources: MAGVIT-v2, https://arxiv.org/abs/2310.05737 (a causal 3D convolutional tokenizer; lookup-free quantisation:
every latent dimension becomes a bit, its sign, straight through); MAGVIT, https://arxiv.org/abs/2212.05199 (a
transformer over the tokens of space and time). Here tokenizer and transformer learn together: the codes must serve the
task and give back a small picture of their cube. The paper's entropy term is left out, as it ties the items of a batch
together; GroupNorm stands where the paper has it too.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard.models.base_extractor import BaseExtractor, attention_of
from trainyard.models.layers import Transformer, group_norm, halved
from trainyard.models.unified import UnifiedModel


class CausalBlock(nn.Module):
    """3D convolution that sees no later frame, GroupNorm, ReLU; halves the size. x (n, inputs, t, h, w)."""

    def __init__(self, inputs: int, outputs: int, frames: int):
        super().__init__()
        self.past = frames - 1
        self.conv = nn.Conv3d(inputs, outputs, (frames, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.norm = group_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(F.pad(x, (0, 0, 0, 0, self.past, 0)))))


class Tokenizer(nn.Module):
    """Clips to binary codes: one token for `tube` frames and 8 × 8 pixels."""

    def __init__(self, width: int, tokens: int, bits: int, tube: int):
        super().__init__()
        self.tube = tube
        self.stem = nn.Sequential(CausalBlock(3, width, 3), CausalBlock(width, 2 * width, 1))
        self.cubes = nn.Conv3d(2 * width, tokens, (tube, 3, 3), (tube, 2, 2), (0, 1, 1))
        self.bits = nn.Linear(tokens, bits)
        self.decoder = nn.Linear(bits, 3 * tube * 4)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (n, tokens, bits) of ±1, and the error (n,) of the pictures decoded from them."""
        # Whole tubes: what is missing goes before the first frame, as the convolutions are causal.
        clips = F.pad(clips, (0, 0, 0, 0, -clips.shape[2] % self.tube, 0))
        latent = self.cubes(self.stem(clips))
        grid = latent.shape[2:]
        soft = torch.tanh(self.bits(latent.flatten(2).transpose(1, 2)))
        codes = soft + (torch.where(soft < 0, -1.0, 1.0) - soft).detach()
        return codes, (self.decoder(codes) - self._pictures(clips, grid)).square().mean((1, 2))

    def _pictures(self, clips: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """What each token should give back: its cube at a quarter of the resolution, (n, tokens, 3 · tube · 4)."""
        n, (t, h, w) = len(clips), grid
        small = F.adaptive_avg_pool3d(clips, (t * self.tube, 2 * h, 2 * w))
        cubes = small.view(n, 3, t, self.tube, h, 2, w, 2).permute(0, 2, 4, 6, 1, 3, 5, 7)
        return cubes.reshape(n, t * h * w, -1)


class MagViTExtractor(BaseExtractor):
    """Codes, attention over all of them, linear over the tokens."""

    def __init__(self, options: Any, frames: int, size: int):
        super().__init__(options, frames, size)
        width, side = options.token_width, halved(size, 3)
        self._grid = -(-frames // options.tube), side, side
        count = self._grid[0] * side * side
        self.tokenizer = Tokenizer(options.width, width, options.bits, options.tube)
        self.embed = nn.Linear(options.bits, width)
        self.place = nn.Parameter(torch.randn(count, width) * 0.02)
        self.encoder = Transformer(width, options.layers, options.heads, 2 * width)
        self.squeeze = nn.Linear(width, 8)
        self.out = nn.Linear(8 * count, options.feature_dim)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        codes, error = self.tokenizer(clips)
        tokens = self.encoder(self.embed(codes) + self.place)
        return self.out(self.squeeze(tokens).flatten(1)), error

    def attention_maps(self, clips: Tensor) -> list[Tensor]:
        return attention_of(self.encoder, self.embed(self.tokenizer(clips)[0]) + self.place)

    @property
    def token_grid(self) -> tuple[int, int, int]:
        return self._grid


class MagViT(UnifiedModel):
    """MagViT with the multi-task head."""

    extractor_class = MagViTExtractor
