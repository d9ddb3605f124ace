"""The paths of `lora_throughput.py`: a Llama with random weights, random chat rows, and Trainyard's ways to train LoRA on them.

Each path is a function of the bench that returns its Result; those of the peers are in `lora_peers.py`, six shards at once in
`lora_shards.py`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from trainyard.config.architectures import LoraOptions
from trainyard.data.chat_tokens import EncodedRows
from trainyard.lora.batches import make_batch
from trainyard.lora.load import put_adapter
from trainyard.lora.model import LoraChat
from trainyard.lora.packing import pack_rows
from trainyard.train.optimizer import AdamW
from trainyard.train.order import step_ends

LENGTH, PER_STEP, PAD, RATE = 512, 16, 0, 2e-4
SIZES = {
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
           "vocab_size": 128_256},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "vocab_size": 512},
}  # fmt: skip


@dataclass
class Result:
    """Of the steps after the first: seconds, tokens of rows; loss of every step; peak memory of the GPU in bytes."""

    seconds: float
    tokens: int
    losses: list[float] = field(default_factory=list)
    peak: int = 0


class Bench:
    """The model, its rows and the clock. `shown`: packed sequences at a time."""

    def __init__(self, device: torch.device, size: str, steps: int, shown: int):
        self.device, self.size, self.steps, self.shown = device, size, steps, shown
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.encoded = random_rows(steps * PER_STEP, SIZES[size]["vocab_size"])

    def base(self, attention: str = "sdpa"):
        from transformers import AutoModelForCausalLM, LlamaConfig

        torch.manual_seed(0)
        config = LlamaConfig(**SIZES[self.size], max_position_embeddings=2 * LENGTH, attn_implementation=attention, pad_token_id=PAD)
        with self.device:
            return AutoModelForCausalLM.from_config(config, dtype=self.dtype)

    def chat(self, attention: str = "sdpa") -> LoraChat:
        model, options = self.base(attention), LoraOptions(r=8, alpha=16)
        torch.manual_seed(1)
        return LoraChat(put_adapter(model, options, "random").to(self.device), None, "random", options)  # type: ignore[arg-type]

    def timed(self, steps: list[tuple[int, Callable[[], float]]]) -> Result:
        """Steps as (tokens, function that makes one and returns its loss); the first is not counted."""
        losses = [steps[0][1]()]
        self.wait()
        start = time.perf_counter()
        losses += [step() for _, step in steps[1:]]
        self.wait()
        return Result(time.perf_counter() - start, sum(tokens for tokens, _ in steps[1:]), [float(x) for x in losses], self.peak())

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0


def train(bench: Bench, chat: LoraChat, groups: list[np.ndarray], at_once: int, losses: Callable[[dict], Tensor] | None = None,
          full: bool = False) -> Result:  # fmt: skip
    """An optimiser step a group of items, `at_once` sequences at a time, `full`: padded to the whole length."""
    optimizer, lengths = AdamW(chat, 0.0), bench.encoded.lengths
    optimizer.lr = RATE

    def step(items: np.ndarray) -> Tensor:
        batches = [make_batch(bench.encoded, items[i : i + at_once], PAD, None) for i in range(0, len(items), at_once)]
        weight, total = sum(float(b["weight"].sum()) for b in batches), 0.0
        optimizer.zero_grad()
        for batch in batches:
            batch = {k: v.to(bench.device) for k, v in (padded(batch) if full else batch).items()}
            loss = (losses or chat.losses)(batch).sum() / weight
            loss.backward()
            total += loss.detach()
        optimizer.step()
        return total

    return bench.timed([(int(lengths[items[items >= 0]].sum()), lambda items=items: step(items)) for items in groups])


def one_by_one(bench: Bench) -> Result:
    return train(bench, bench.chat(), [np.arange(i, i + PER_STEP)[:, None] for i in range(0, bench.steps * PER_STEP, PER_STEP)], 1)


def packed_steps(bench: Bench) -> list[np.ndarray]:
    """Packed sequences by optimiser step: as many samples a step as without packing."""
    rows = np.arange(len(bench.encoded.lengths))
    bins = pack_rows(rows, bench.encoded.lengths, LENGTH)
    bins = bins[np.random.default_rng(0).permutation(len(bins))]
    return np.split(bins, step_ends((bins >= 0).sum(1), PER_STEP)[:-1])


def packed(bench: Bench, every_logit: bool = False, compiled: bool = False) -> Result:
    chat = bench.chat()
    chat._some_logits = not every_logit
    if compiled:
        chat.model.get_base_model().model.compile(dynamic=False)
    return train(bench, chat, packed_steps(bench), bench.shown, full=compiled)


def flex(bench: Bench) -> Result:
    """transformers makes the mask of blocks from positions that begin anew; held against the dense mask before it counts."""
    chat, dense = bench.chat("flex_attention"), bench.chat()

    def losses(batch: dict) -> Tensor:
        kept = {k: v for k, v in batch.items() if k != "row"}
        positions = kept.pop("position_ids")
        hidden = chat.model.get_base_model().model(input_ids=kept["input_ids"], position_ids=positions, use_cache=False)[0]
        at = kept["scored"][:, 1:].nonzero(as_tuple=True)
        logits = chat.model.get_base_model().lm_head(hidden[at]).float()
        return nn.functional.cross_entropy(logits, kept["labels"][:, 1:][at], reduction="sum")

    batch = {k: v.to(bench.device) for k, v in padded(make_batch(bench.encoded, packed_steps(bench)[0][:1], PAD, None)).items()}
    with torch.no_grad():
        ours, wanted = float(losses(batch)), float(dense.losses(batch).sum())
    if abs(ours - wanted) > 0.01 * wanted:
        raise RuntimeError(f"rows see each other: loss {ours:.3f}, under the block mask {wanted:.3f}")
    del dense
    return train(bench, chat, packed_steps(bench), 1, losses, full=True)


def random_rows(count: int, vocabulary: int) -> EncodedRows:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(220), 0.5, count).round().astype(np.int64), 16, LENGTH)
    ids = rng.integers(1, vocabulary, lengths.sum(), dtype=np.int32)
    return EncodedRows(ids, np.concatenate([[0], np.cumsum(lengths)]), (lengths * 0.4).astype(np.int64), np.arange(count))


def padded(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sequences filled up to the whole length, so that shapes stay the same; weights as they are."""
    fill = {"row": -1}
    wide = lambda k, v: nn.functional.pad(v, (0, LENGTH - v.shape[1]), value=fill.get(k, 0)) if v.ndim == 2 else v  # noqa: E731
    return {k: wide(k, v) for k, v in batch.items()}
