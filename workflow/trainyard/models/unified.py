"""One multi-task head for all video extractors: which kind of path it is, and where the object is next."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard.data.predictions import PartOutput
from trainyard.data.views import labelled
from trainyard.models.base import TrainyardModel
from trainyard.models.base_extractor import BaseExtractor
from trainyard.models.gather import gather

HIDDEN = 128
CONTRAST = 4.0  # what is left of a clip without its mean colour is small; this brings it near unit size


class MultiTaskHead(nn.Module):
    """Features of all cameras, side by side, to class scores and the next position."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.join = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, HIDDEN), nn.GELU())
        self.trajectory, self.position = nn.Linear(HIDDEN, classes), nn.Linear(HIDDEN, 3)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (n, cameras · feature_dim) to scores (n, classes) and a standardised position (n, 3)."""
        joined = self.join(features)
        return self.trajectory(joined), self.position(joined)


class UnifiedModel(TrainyardModel):
    """An extractor that all cameras share, and the head. Subclasses name the extractor.

    Reads the pack's `video`, `positions` and `label`; predicts the parts `trajectory` (class) and `position` (values,
    in the unit of the data).
    """

    extractor_class: ClassVar[type[BaseExtractor]]
    position_mean: Tensor
    position_scale: Tensor

    def __init__(self, options: Any, classes: int, cameras: int, frames: int, size: int):
        super().__init__()
        self.position_weight = options.position_weight
        self.extractor = self.extractor_class(options, frames, size)
        self.head = MultiTaskHead(cameras * options.feature_dim, classes)
        self.register_buffer("position_mean", torch.zeros(3))
        self.register_buffer("position_scale", torch.ones(3))

    @classmethod
    def from_pack(cls, options: Any, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> Self:
        """Sizes from the pack's arrays; mean and spread of the next position from the training rows. Raises ValueError."""
        classes = pack.meta["classes"]
        unlabelled = int((np.asarray(pack.fixed("label"))[rows] < 0).sum())
        if len(classes) < 2 or unlabelled:
            raise ValueError(
                f"{pack.path}: {len(classes)} classes, and {unlabelled} of {len(rows)} training samples without one; "
                "the trajectory class needs a label rule that names at least two and fits every sample"
            )
        _, cameras, frames, _, size, _ = pack.fixed("video").shape
        model = cls(options, len(classes), cameras, frames, size)
        target = np.asarray(pack.fixed("positions")[rows, -1], np.float64)
        scale = target.std(0)
        model.position_mean.copy_(torch.from_numpy(target.mean(0)))
        model.position_scale.copy_(torch.from_numpy(np.where(scale > 1e-6, scale, 1.0)))
        return model

    def items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        """Rows that have a label."""
        return labelled(pack, rows)[:, None]

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        """video (n, cameras, frames, 3, h, w), uint8; position (n, 3); label (n,). In training the three colours of a
        sample change places at random: paths have no colour."""
        rows = np.asarray(items)[:, 0]
        video = gather(pack.fixed("video"), rows)
        if seeds is not None:
            for i, seed in enumerate(seeds):
                video[i] = video[i][:, :, torch.from_numpy(np.random.default_rng(int(seed)).permutation(3))]
        return {
            "video": video,
            "position": gather(pack.fixed("positions"), rows)[:, -1],
            "label": gather(pack.fixed("label"), rows),
            "weight": torch.ones(len(rows)),
        }

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Class scores (n, classes), standardised next position (n, 3), and the extractor's own loss (n,) or None."""
        n = len(batch["video"])
        features, extra = self.extractor(self._clips(batch))
        scores, position = self.head(features.view(n, -1))
        return scores, position, None if extra is None else extra.view(n, -1).mean(1)

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        scores, position, extra = self(batch)
        target = (batch["position"] - self.position_mean) / self.position_scale
        loss = F.cross_entropy(scores, batch["label"], reduction="none")
        loss = loss + self.position_weight * (position - target).square().mean(1)
        return loss if extra is None else loss + extra

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        scores, position, _ = self(batch)
        position = position * self.position_scale + self.position_mean
        return {
            "trajectory": PartOutput.classes(batch["label"].cpu().numpy(), scores.float().softmax(1).cpu().numpy()),
            "position": PartOutput.values(list(batch["position"].cpu().numpy()), list(position.float().cpu().numpy())),
        }

    def attention_maps(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Attention weights of every layer, (n, cameras, heads, tokens, tokens); tokens lie as extractor.token_grid says.

        Raises TypeError for extractors without attention.
        """
        n = len(batch["video"])
        return [a.view(n, -1, *a.shape[1:]) for a in self.extractor.attention_maps(self._clips(batch))]

    def _clips(self, batch: dict[str, Tensor]) -> Tensor:
        """Every camera a clip: (n · cameras, 3, frames, h, w), without the clip's own mean colour, its background."""
        clips = batch["video"].flatten(0, 1).transpose(1, 2).float()
        return (clips - clips.mean((2, 3, 4), keepdim=True)) * (CONTRAST / 255)
