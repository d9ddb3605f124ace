"""Multilayer perceptron for tables, with its preparation inside: it takes raw columns, missing values included.

Tuned MLPs are hard to beat on tables: Gorishniy et al. 2021, https://arxiv.org/abs/2106.11959; GELU: https://arxiv.org/abs/1606.08415;
LayerNorm (a batch may hold one row): https://arxiv.org/abs/1607.06450.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard.config.architectures import TabularOptions
from trainyard.data.predictions import PartOutput
from trainyard.data.tabular_prepare import CLIP, Preparation
from trainyard.data.views import labelled
from trainyard.models.base import TrainyardModel
from trainyard.models.layers import SampleDropout, number_dropouts


class TabularMLP(TrainyardModel):
    """Classifies rows; one part, "diagnosis"."""

    median: Tensor
    mean: Tensor
    scale: Tensor
    holes: Tensor
    best_metric: ClassVar[str] = "validation log loss"

    def __init__(self, options: TabularOptions, preparation: Preparation, classes: int):
        super().__init__()
        for name in ("median", "mean", "scale"):
            self.register_buffer(name, torch.tensor(getattr(preparation, name), dtype=torch.float32))
        self.register_buffer("holes", torch.tensor(np.flatnonzero(preparation.holes), dtype=torch.int64))
        self.sizes = preparation.sizes
        layers: list[nn.Module] = []
        width = preparation.width
        for _ in range(options.layers):
            layers += [nn.Linear(width, options.width), nn.LayerNorm(options.width), nn.GELU(), SampleDropout(options.dropout)]
            width = options.width
        self.net = nn.Sequential(*layers, nn.Linear(width, classes))
        number_dropouts(self)

    @classmethod
    def from_pack(cls, options: TabularOptions, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> Self:
        rows = labelled(pack, rows)
        labels = np.asarray(pack.fixed("label"))[rows]
        if len(np.unique(labels)) < 2:
            found = [pack.meta["classes"][i] for i in np.unique(labels)]
            raise ValueError(f"the {len(rows)} labelled training rows hold {found or 'no class'}: a classifier needs two classes or more")
        return cls(options, Preparation.fit(pack, rows), len(pack.meta["classes"]))

    def items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        """The labelled rows, (m, 1)."""
        return labelled(pack, rows)[:, None]

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        rows = items[:, 0]
        return {
            "numeric": torch.from_numpy(np.asarray(pack.fixed("numeric")[rows], np.float32)),
            "category": torch.from_numpy(np.asarray(pack.fixed("category")[rows], np.int64)),
            "label": torch.from_numpy(np.asarray(pack.fixed("label")[rows], np.int64)),
            "weight": torch.ones(len(rows)),
        }

    def prepare(self, numeric: Tensor, category: Tensor) -> Tensor:
        """numeric (n, d) with NaN, category (n, c) with -1 → (n, width): what data/tabular_prepare.py does."""
        missing = numeric.isnan()
        x = ((torch.where(missing, self.median, numeric) - self.mean) / self.scale).clamp(-CLIP, CLIP)
        hot = [F.one_hot(category[:, i] + 1, size + 1)[:, 1:].to(x.dtype) for i, size in enumerate(self.sizes)]
        return torch.cat([x, missing[:, self.holes].to(x.dtype), *hot], dim=1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (n, classes)."""
        return self.net(self.prepare(batch["numeric"], batch["category"]))

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(self(batch), batch["label"], reduction="none")

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        probabilities = self(batch).softmax(1).double().cpu().numpy()
        return {"diagnosis": PartOutput.classes(batch["label"].cpu().numpy(), probabilities)}
