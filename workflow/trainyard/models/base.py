"""What the training loop asks of a model. A new architecture is one file that fills this in, and one line in
config/architectures.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.torch import save
from torch import Tensor, nn

from trainyard.data.files import replacing
from trainyard.data.predictions import PartOutput
from trainyard.data.tensors import ordered


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file, atomically, the same bytes for the same content."""
    data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, dict(metadata or {}))
    with replacing(path) as temporary:
        temporary.write_bytes(ordered(data))


class TrainyardModel(nn.Module):
    """A model that can be built from a pack, trained in micro-batches and asked for predictions.

    Rules that resuming and the memory ladder rest on: no BatchNorm; every random choice of an item comes from its
    seed in `collate`, or from `SampleDropout`; an item's loss does not depend on the other items of its batch.
    """

    @classmethod
    def from_pack(cls, options: Any, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> Self:
        """Build for the training rows of a pack: sizes from its meta, normalisation (as buffers) from those rows only.

        `options` is the frozen options object of the architecture; `paths` names other inputs (LoRA: base_model).
        """
        raise NotImplementedError

    def items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        """What one pass sees, (m, k) int64: row, and for windows where they start. Default: a row an item."""
        return np.asarray(rows, np.int64)[:, None]

    def training_items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        """What one epoch of training sees, (m, k) int64. Default: the items."""
        return self.items(pack, rows)

    def samples(self, items: np.ndarray) -> np.ndarray:
        """How many samples each training item holds, (m,) int64: the effective batch counts them. Default: one."""
        return np.ones(len(items), np.int64)

    def sample_ids(self, pack: Any, items: np.ndarray) -> list[str]:
        """Ids of the samples in some training items, each once: a batch that goes wrong is named by them."""
        return pack.texts("id", list(dict.fromkeys(items[:, 0].tolist())))

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        """A batch on the CPU. Must hold "weight" (n,) float32: how many targets of each item are scored.

        `seeds` (n,) int64 are given in training only: augmentation draws from them, item by item. Where an item holds
        several samples, the batch may hold "seeds" of its own, (n, t): one for each row of numbers that dropout sees.
        """
        raise NotImplementedError

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        """Summed loss of each item, (n,). The loop divides the batch's total by its total weight."""
        raise NotImplementedError

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        """Predictions by part, in the unit they are reported in. Called in eval mode without gradients."""
        raise NotImplementedError

    def trainable_state(self) -> dict[str, Tensor]:
        """What a checkpoint and the final file hold. Default: the whole state dict."""
        return self.state_dict()

    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)

    def write(self, folder: str) -> None:
        """The final file(s). Default: model.safetensors; LoRA writes an adapter instead."""
        save_tensors(Path(folder) / "model.safetensors", self.trainable_state())
