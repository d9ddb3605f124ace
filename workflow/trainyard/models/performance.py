"""Scores of a performance from its recording, its MIDI file, or both: encoders and scorer of the three experiments.

Audio: convolutions on log-mel frames (after VGGish, https://arxiv.org/abs/1609.09430). MIDI: a transformer over
notes, after PercePiano (https://doi.org/10.1038/s41598-024-73810-0), which scores performances from note features.
Both are pooled to means and spreads, joined late, and scored by one small network. Gradient checkpointing:
https://arxiv.org/abs/1604.06174.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainyard.config.architectures import PerformanceOptions
from trainyard.data.paired import score_parts
from trainyard.data.predictions import PartOutput
from trainyard.models.base import TrainyardModel
from trainyard.models.gather import gather
from trainyard.models.layers import SampleDropout, Transformer, halved
from trainyard.models.spectrogram import blocks, centred, centred_spread, hide_bands, mean_and_spread, real_steps, statistics_rows

AUDIO_STRIDE = 4


class PerformanceModel(TrainyardModel):
    """Reads the recording, the MIDI file, or both, as its subclass says, and predicts every score of the annotations."""

    reads: ClassVar[tuple[str, ...]] = ()
    score_mean: Tensor
    score_spread: Tensor

    def __init__(self, options: PerformanceOptions, names: list[str], mels: int, notes: int, columns: int):
        super().__init__()
        self.names, self.options = names, options
        self.encoders = nn.ModuleDict()
        if "audio" in self.reads:
            self.encoders["audio"] = AudioEncoder(options, mels)
        if "midi" in self.reads:
            self.encoders["midi"] = MidiEncoder(options, notes, columns)
        self.register_buffer("score_mean", torch.zeros(len(names)))
        self.register_buffer("score_spread", torch.ones(len(names)))
        inside = 2 * options.width * len(self.encoders)
        self.norm, self.dropout = nn.LayerNorm(inside), SampleDropout(options.dropout)
        self.hidden, self.out = nn.Linear(inside, options.width), nn.Linear(options.width, len(names))

    @classmethod
    def from_pack(cls, options: PerformanceOptions, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> Self:
        names = list(pack.meta.get("target_names") or [])
        if not names:
            raise ValueError(f"{pack.path}: no scores to learn; name the field that holds them in the dataset's fields.scores")
        notes = pack.fixed("notes")
        model = cls(options, names, pack.fixed("mel").shape[2], notes.shape[1], notes.shape[2])
        some = statistics_rows(rows)
        scores = np.asarray(pack.fixed("scores"))[np.asarray(rows)]
        model.score_mean.copy_(torch.from_numpy(scores.mean(0)))
        model.score_spread.copy_(torch.from_numpy(np.maximum(scores.std(0), 1e-3)))
        if "audio" in cls.reads:
            model.encoders["audio"].get_buffer("spread").fill_(centred_spread(pack, rows))
        if "midi" in cls.reads:
            counts = pack.fixed("note_count")
            played = np.concatenate([notes[r][: counts[r]] for r in some])
            model.encoders["midi"].get_buffer("mean").copy_(torch.from_numpy(played.mean(0)))
            model.encoders["midi"].get_buffer("spread").copy_(torch.from_numpy(np.maximum(played.std(0), 1e-3)))
        return model

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        """mel (n, frames, mels), frames (n,), notes (n, notes, 5), note_count (n,), scores (n, dims), weight (n,): dims"""
        rows = items[:, 0]
        batch = {"scores": gather(pack.fixed("scores"), rows), "weight": torch.full((len(rows),), float(len(self.names)))}
        if "audio" in self.reads:
            batch["frames"] = gather(pack.fixed("frames"), rows).long()
            clips = [centred(pack.fixed("mel")[r], int(n)) for r, n in zip(rows, batch["frames"])]
            if seeds is not None and self.options.mask_mels:
                for clip, seed in zip(clips, seeds):
                    hide_bands(clip, self.options.mask_mels, np.random.default_rng(seed))
            batch["mel"] = torch.from_numpy(np.stack(clips))
        if "midi" in self.reads:
            batch["notes"] = gather(pack.fixed("notes"), rows)
            batch["note_count"] = gather(pack.fixed("note_count"), rows).long()
        return batch

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Scores (n, dims), standardised."""
        x = self.norm(torch.cat([encoder(batch) for encoder in self.encoders.values()], 1))
        return self.out(self.dropout(F.gelu(self.hidden(x))))

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        target = (batch["scores"] - self.score_mean) / self.score_spread
        return ((self(batch) - target) ** 2).sum(1)

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        """All scores as part "scores", and each by its name."""
        predicted = (self(batch) * self.score_spread + self.score_mean).float().cpu().numpy()
        return score_parts(batch["scores"].cpu().numpy(), predicted, self.names)


class AudioEncoder(nn.Module):
    spread: Tensor

    def __init__(self, options: PerformanceOptions, mels: int):
        super().__init__()
        c = options.channels
        self.checkpointing = options.gradient_checkpointing
        self.register_buffer("spread", torch.tensor(1.0))
        self.blocks = blocks((1, c, c, 2 * c, 2 * c), ((2, 1), (2, 1), (2, 2), (2, 2)))
        self.mix = nn.Conv1d(2 * c * halved(mels, 4), options.width, 3, 1, 1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """mel (n, frames, mels) -> (n, 2 · width)"""
        x = (batch["mel"] / self.spread).transpose(1, 2)[:, None]
        for block in self.blocks:
            x = _run(block, x, self.checkpointing and self.training)
        # Bands are joined, not averaged: which band it was is what tone and register are heard by.
        x = F.gelu(self.mix(x.flatten(1, 2)))
        return mean_and_spread(x, real_steps(batch["frames"], AUDIO_STRIDE, x.shape[2]))


class MidiEncoder(nn.Module):
    mean: Tensor
    spread: Tensor

    def __init__(self, options: PerformanceOptions, notes: int, columns: int):
        super().__init__()
        w = options.width
        self.checkpointing = options.gradient_checkpointing
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("spread", torch.ones(columns))
        self.inside = nn.Linear(columns + 1, w)
        self.position = nn.Parameter(torch.randn(1, notes, w) * 0.02)
        self.transformer = Transformer(w, options.layers, options.heads, 2 * w, options.dropout)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """notes (n, notes, 5), note_count (n,) -> (n, 2 · width)"""
        notes = batch["notes"]
        real = torch.arange(notes.shape[1], device=notes.device) < batch["note_count"][:, None]
        # A sixth column marks real notes: padding takes part in attention, known as such, and is left out of the pooling.
        columns = torch.cat([(notes - self.mean) / self.spread, torch.ones_like(notes[..., :1])], -1) * real[..., None]
        x = self.inside(columns) + self.position
        for block in self.transformer.blocks:
            x = _run(block, x, self.checkpointing and self.training)
        return mean_and_spread(self.transformer.norm(x).transpose(1, 2), real[:, None])


def _run(block: nn.Module, x: Tensor, again: bool) -> Tensor:
    """A block, its activations kept or, with `again`, computed once more in the backward pass.

    No generator state is saved: SampleDropout's masks come from the items' seeds and are the same both times.
    """
    return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False) if again else block(x)
