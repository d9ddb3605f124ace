"""emotion_recognizer: a convolutional network on log-mel frames names the emotion of a voice.

After Badshah et al., Speech Emotion Recognition from Spectrograms with Deep CNN
(https://doi.org/10.1109/PlatCon.2017.7883728), with GroupNorm and pooling over time in place of its dense layers;
training hides mel bands as SpecAugment does (https://arxiv.org/abs/1904.08779).
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard.config.architectures import EmotionOptions
from trainyard.data.predictions import PartOutput
from trainyard.data.views import labelled
from trainyard.models.base import TrainyardModel
from trainyard.models.gather import gather
from trainyard.models.layers import SampleDropout
from trainyard.models.spectrogram import blocks, centred, centred_spread, hide_bands, mean_and_max, real_steps

TIME_STRIDE = 8


class EmotionRecognizer(TrainyardModel):
    spread: Tensor

    def __init__(self, options: EmotionOptions, classes: int, spread: float = 1.0):
        super().__init__()
        w = options.width
        self.options = options
        self.register_buffer("spread", torch.tensor(spread))
        self.blocks = blocks((1, w, 2 * w, 2 * w, 4 * w), ((2, 1), (2, 2), (2, 2), (2, 2)))
        self.dropout = SampleDropout(options.dropout)
        self.head = nn.Linear(8 * w, classes)

    @classmethod
    def from_pack(cls, options: EmotionOptions, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> Self:
        classes = pack.meta["classes"]
        if len(classes) < 2:
            raise ValueError(f"{pack.path}: emotion_recognizer needs at least two classes; the label rule gave {classes or 'none'}")
        return cls(options, len(classes), centred_spread(pack, rows))

    def items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        """Rows that have a label."""
        return labelled(pack, rows)[:, None]

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        """mel (n, frames, mels), frames (n,), label (n,), weight (n,)"""
        rows = items[:, 0]
        mel, frames = pack.fixed("mel"), np.asarray(pack.fixed("frames"))[rows]
        clips = [centred(mel[row], int(count)) for row, count in zip(rows, frames)]
        if seeds is not None:
            clips = [self._augmented(c, int(count), np.random.default_rng(seed)) for c, count, seed in zip(clips, frames, seeds)]
        return {
            "mel": torch.from_numpy(np.stack(clips)),
            "frames": torch.from_numpy(frames.astype(np.int64)),
            "label": gather(pack.fixed("label"), rows),
            "weight": torch.ones(len(rows)),
        }

    def forward(self, mel: Tensor, frames: Tensor) -> Tensor:
        """mel (n, frames, mels), frames (n,) -> logits (n, classes)"""
        x = (mel / self.spread).transpose(1, 2)[:, None]
        for block in self.blocks:
            x = block(x)
        x = x.mean(2)  # (n, 4 w, frames / 8): over the bands that are left
        return self.head(self.dropout(mean_and_max(x, real_steps(frames, TIME_STRIDE, x.shape[2]))))

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(self(batch["mel"], batch["frames"]), batch["label"], reduction="none")

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        p = self(batch["mel"], batch["frames"]).softmax(1)
        return {"emotion": PartOutput.classes(batch["label"].cpu().numpy(), p.cpu().numpy())}

    def _augmented(self, clip: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
        """Real frames turned round by a random time, all bands moved by a few, some bands hidden."""
        o = self.options
        clip[:frames] = np.roll(clip[:frames], int(rng.integers(max(frames, 1))), 0)
        if o.shift_mels:
            clip = np.roll(clip, int(rng.integers(-o.shift_mels, o.shift_mels + 1)), 1)
        if o.mask_mels:
            hide_bands(clip, o.mask_mels, rng)
        return clip
