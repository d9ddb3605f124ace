"""harmony_predictor: chords and chroma of the bars so far → the next bar's chord.

A GRU (https://arxiv.org/abs/1406.1078) over bars, as recurrent chord models of popular music are
(Boulanger-Lewandowski, Bengio, Vincent 2012, https://arxiv.org/abs/1206.6392).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard.data.midi import NO_CHORD
from trainyard.data.midi_items import harmony_items, harmony_window
from trainyard.data.predictions import PartOutput
from trainyard.models.base import TrainyardModel
from trainyard.models.layers import SampleDropout, number_dropouts


class HarmonyPredictor(TrainyardModel):
    """24 triads; a bar without one is heard but never asked for."""

    def __init__(self, options: Any):
        super().__init__()
        self.context, self.transpose = options.context, options.transpose
        self.chord, self.chroma = nn.Embedding(NO_CHORD + 1, options.width), nn.Linear(12, options.width)
        self.gru = nn.GRU(options.width, options.hidden, batch_first=True)
        self.drop, self.out = SampleDropout(options.dropout), nn.Linear(options.hidden, NO_CHORD)
        number_dropouts(self)

    @classmethod
    def from_pack(cls, options: Any, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> "HarmonyPredictor":
        return cls(options)

    def items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        return harmony_items(pack, rows, self.context)

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        """chords (n, context) int64 and chroma (n, context, 12); in training each window is moved to another key."""
        chords = np.full((len(items), self.context), NO_CHORD, np.int64)
        chroma = np.zeros((len(items), self.context, 12), np.float32)
        for i, item in enumerate(items):
            c, f = harmony_window(pack, item, self.context)
            if seeds is not None and self.transpose:
                shift = int(np.random.default_rng(int(seeds[i])).integers(12))
                c, f = transpose_chords(c, shift), np.roll(f, shift, 1)
            chords[i, : len(c)], chroma[i, : len(c)] = c, f
        count = (chords[:, 1:] != NO_CHORD).sum(1)
        weight = torch.from_numpy(count.astype(np.float32))
        return {"chords": torch.from_numpy(chords), "chroma": torch.from_numpy(chroma), "weight": weight}

    def forward(self, chords: Tensor, chroma: Tensor) -> Tensor:
        """chords (n, t), chroma (n, t, 12) → logits (n, t, 24) of the chord that follows each."""
        return self.out(self.drop(self.gru(self.chord(chords) + self.chroma(chroma))[0]))

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        return self._scores(batch)[0].sum(1)

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        """Nats and hits over the chords of each window."""
        nll, hit = (x.sum(1).cpu().numpy() for x in self._scores(batch))
        return {"chord": PartOutput.tokens(nll, hit, batch["weight"].cpu().numpy())}

    def _scores(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Nats and hit of every bar after the first, (n, t − 1) each, 0 where no chord sounds."""
        logits, target = self(batch["chords"][:, :-1], batch["chroma"][:, :-1]), batch["chords"][:, 1:]
        nll = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=NO_CHORD, reduction="none")
        return nll.view(target.shape), logits.argmax(-1) == target


def transpose_chords(chords: np.ndarray, semitones: int) -> np.ndarray:
    """Chords moved up; NO_CHORD stays."""
    return np.where(chords == NO_CHORD, chords, (chords % 12 + semitones) % 12 + chords // 12 * 12)
