"""melody_transformer: a causal transformer over the notes of a melody.

After the decoder of "Attention Is All You Need" (https://arxiv.org/abs/1706.03762) with pre-norm blocks, on
melodies as Music Transformer (https://arxiv.org/abs/1809.04281) reads them; the duration is predicted after its
pitch, from one state, instead of as a token between the pitches.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard.data.midi import DURATIONS, PITCHES
from trainyard.data.midi_grid import STEPS
from trainyard.data.midi_items import melody_items, melody_window
from trainyard.data.predictions import PartOutput
from trainyard.models.base import TrainyardModel
from trainyard.models.layers import Transformer, number_dropouts

NONE = -1  # where a window is shorter than the context


class MelodyTransformer(TrainyardModel):
    """Notes and their places in the bar so far, and where the next note falls → its pitch, then its duration."""

    def __init__(self, options: Any):
        super().__init__()
        width = options.width
        self.context, self.transpose = options.context, options.transpose
        self.pitch = nn.Embedding(PITCHES + 1, width)
        self.duration = nn.Embedding(len(DURATIONS) + 1, width)
        self.order = nn.Parameter(torch.randn(1, options.context, width) * 0.02)
        # The place in the bar of this note and of the next: with both, attention can copy a bar heard before.
        self.here, self.there = nn.Embedding(STEPS, width), nn.Embedding(STEPS, width)
        self.body = Transformer(width, options.layers, options.heads, 4 * width, options.dropout)
        self.to_pitch, self.to_duration = nn.Linear(width, PITCHES), nn.Linear(2 * width, len(DURATIONS))
        for table in (self.pitch, self.duration, self.here, self.there):
            nn.init.normal_(table.weight, std=0.5)
        number_dropouts(self)

    @classmethod
    def from_pack(cls, options: Any, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> "MelodyTransformer":
        return cls(options)

    def items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        return melody_items(pack, rows, self.context)

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        """notes (n, context + 1, 3) int64, −1 behind the end; in training each window is transposed at random."""
        notes = np.full((len(items), self.context + 1, 3), NONE, np.int64)
        for i, item in enumerate(items):
            window = melody_window(pack, item, self.context)
            if seeds is not None and self.transpose:
                shift = int(np.random.default_rng(int(seeds[i])).integers(-self.transpose, self.transpose + 1))
                window[:, 0] = _by_octaves(window[:, 0] + shift)
            notes[i, : len(window)] = window
        count = (notes[:, 1:, 0] != NONE).sum(1)
        return {"notes": torch.from_numpy(notes), "weight": torch.from_numpy(count.astype(np.float32))}

    def forward(self, notes: Tensor) -> tuple[Tensor, Tensor]:
        """notes (n, t + 1, 3) → logits of the pitch (n, t, 61) and duration (n, t, 8) of notes 1 … t."""
        past, coming = notes[:, :-1], notes[:, 1:]
        x = self.pitch(_or(past[..., 0], PITCHES)) + self.duration(_or(past[..., 1], len(DURATIONS)))
        x = x + self.here(_or(past[..., 2], 0)) + self.there(_or(coming[..., 2], 0)) + self.order[:, : past.shape[1]]
        x = self.body(x, causal=True)
        return self.to_pitch(x), self.to_duration(torch.cat([x, self.pitch(_or(coming[..., 0], PITCHES))], -1))

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        (pitch, _), (duration, _) = self._scores(batch["notes"])
        return (pitch + duration).sum(1)

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        """Nats and hits of pitch and duration, over the notes of each window."""
        count = batch["weight"].cpu().numpy()
        parts = zip(("pitch", "duration"), self._scores(batch["notes"]))
        return {name: PartOutput.tokens(nll.sum(1).cpu().numpy(), hit.sum(1).cpu().numpy(), count) for name, (nll, hit) in parts}

    def _scores(self, notes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Nats and hit of every note, (n, t) each, 0 behind the end; for pitch and for duration."""
        out = []
        for part, logits in enumerate(self(notes)):
            target = notes[:, 1:, part]
            nll = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=NONE, reduction="none")
            out.append((nll.view(target.shape), (logits.argmax(-1) == target) & (target != NONE)))
        return out


def _or(values: Tensor, other: int) -> Tensor:
    return torch.where(values == NONE, other, values)


def _by_octaves(pitch: np.ndarray) -> np.ndarray:
    """Pitches that a transposition moved out of the range, back by an octave."""
    return np.where(pitch < 0, pitch + 12, np.where(pitch >= PITCHES, pitch - 12, pitch))
