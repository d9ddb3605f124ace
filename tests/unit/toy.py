"""A tiny regression model and its pack, for tests of the loop."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from trainyard.data.pack import Pack, PackWriter
from trainyard.data.predictions import PartOutput
from trainyard.data.views import View
from trainyard.models.base import TrainyardModel
from trainyard.models.layers import SampleDropout

JOB = {
    "suite": "toy", "run": "toy", "model": "toy", "architecture": "toy", "seed": 3, "fold": 0, "shard": 0, "epochs": 4, "batch_size": 8,
    "accumulate": 1, "lr": 1e-2, "weight_decay": 1e-2, "warmup": 0.1, "schedule": "cosine", "clip": 1.0, "select": "best",
    "checkpoint": {"every_epochs": 1, "every_steps": 3, "every_minutes": 0, "keep": 2},
}  # fmt: skip


class ToyModel(TrainyardModel):
    """Two layers with dropout; augments by a little noise from the item's seed."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.GELU(), SampleDropout(0.2), nn.Linear(16, 1))
        self.seen: list[int] = []
        self.fail_above = 10**9

    def collate(self, pack, items, seeds):
        x = np.array(pack.fixed("x")[items[:, 0]])
        if seeds is not None:
            self.seen += items[:, 0].tolist()
            x = x + np.stack([np.random.default_rng(s).normal(0, 0.01, x.shape[1]) for s in seeds])
        return {
            "x": torch.from_numpy(np.float32(x)),
            "y": torch.from_numpy(np.array(pack.fixed("y")[items[:, 0]])),
            "weight": torch.ones(len(items)),
        }

    def losses(self, batch):
        if self.training and len(batch["x"]) > self.fail_above:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return (self.net(batch["x"])[:, 0] - batch["y"]) ** 2

    def predict(self, batch):
        return {"y": PartOutput.values(batch["y"].numpy()[:, None], self.net(batch["x"]).numpy())}


def toy_view(folder: Path, n: int = 50, seed: int = 0) -> View:
    rng = np.random.default_rng(seed)
    path = folder / f"toy{seed}.safetensors"
    with PackWriter(path, {"format": "toy"}) as writer:
        for i in range(n):
            x = rng.normal(size=6).astype(np.float32)
            writer.add({"x": x, "y": np.float32(x[0] * x[1] + x[2])}, {"id": f"s{i}", "group": f"g{i % 7}"})
    return View(Pack(path), np.arange(n))
