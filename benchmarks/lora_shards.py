"""Six shards of `lora_throughput.py` at once: their adapters stacked on one frozen base, against one after the other."""

import numpy as np
import torch
from lora_paths import LENGTH, PAD, RATE, Bench, Result, padded
from torch import Tensor, nn
from trainyard.config.architectures import LoraOptions
from trainyard.lora.batches import make_batch
from trainyard.lora.load import linear_layers
from trainyard.lora.model import LoraChat
from trainyard.lora.packing import pack_rows
from trainyard.train.optimizer import AdamW

SHARDS = 6


def together(bench: Bench) -> tuple[Result, Result]:
    """Six shards' packed sequences, the same a step: all at once with stacked adapters, and shard after shard."""
    steps = max(2, bench.steps // SHARDS)
    parts = np.array_split(np.arange(len(bench.encoded.lengths)), SHARDS)
    bins = [pack_rows(p, bench.encoded.lengths[p], LENGTH) for p in parts]
    count = min(len(b) for b in bins) // steps
    shards = [[b[i * count : (i + 1) * count] for i in range(steps)] for b in bins]
    at_once = _stacked(bench, list(range(SHARDS)), shards)
    one_by_one = [_stacked(bench, [k], [shards[k]]) for k in range(SHARDS)]
    losses = [sum(step) for step in zip(*(r.losses for r in one_by_one))]
    apart = Result(sum(r.seconds for r in one_by_one), sum(r.tokens for r in one_by_one), losses, max(r.peak for r in one_by_one))
    return at_once, apart


def _stacked(bench: Bench, which: list[int], shards: list[list[np.ndarray]]) -> Result:
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model = bench.base().requires_grad_(False)
    for i, name in enumerate(linear_layers(model)):
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, Stacked(model.get_submodule(name), which, 8, 16, i))
    chat = LoraChat(model, None, "random", LoraOptions(r=8, alpha=16))  # type: ignore[arg-type]
    optimizer = AdamW(chat, 0.0)
    optimizer.lr = RATE

    def step(i: int) -> Tensor:
        widest = max(shard[i].shape[1] for shard in shards)
        items = np.concatenate([np.pad(s[i], ((0, 0), (0, widest - s[i].shape[1])), constant_values=-1) for s in shards])
        batch = {k: v.to(bench.device) for k, v in padded(make_batch(bench.encoded, items, PAD, None)).items()}
        weights = batch["weight"].view(len(which), -1).sum(1)
        optimizer.zero_grad()
        loss = (chat.losses(batch).view(len(which), -1).sum(1) / weights).sum()  # each adapter's mean: their gradients do not mix
        loss.backward()
        optimizer.step()
        return loss.detach()

    lengths = bench.encoded.lengths
    tokens = [sum(int(lengths[s[i][s[i] >= 0]].sum()) for s in shards) for i in range(len(shards[0]))]
    return bench.timed([(count, lambda i=i: step(i)) for i, count in enumerate(tokens)])


class Stacked(nn.Module):
    """A frozen linear layer with an adapter for each shard: x (shards × n, t, in), every shard's sequences through its own A and B."""

    def __init__(self, layer: nn.Linear, which: list[int], rank: int, alpha: int, seed: int):
        super().__init__()
        self.layer, self.count, self.scale = layer, len(which), alpha / rank
        first = [torch.randn(rank, layer.in_features, generator=torch.Generator().manual_seed(100 * seed + k)) for k in which]
        self.a = nn.Parameter(torch.stack(first).to(layer.weight.device) / layer.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(self.count, layer.out_features, rank, device=layer.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        own = x.reshape(self.count, -1, x.shape[-1]).to(self.a.dtype)
        update = (own @ self.a.transpose(1, 2)) @ self.b.transpose(1, 2)
        y = self.layer(x)
        return y + (self.scale * update).view_as(y).to(y.dtype)
