#!/usr/bin/env python
"""Tokens a second of LoRA on a Llama of about 1B parameters (random weights), fine-tuned on random chat rows of median 220 tokens.

One row at a time as accumulation does it, rows packed under a block mask, with logits of every position or of the answers only,
with FlexAttention, compiled; beside transformers' Trainer with peft, and TRL's SFTTrainer with its packing. Same rows, same
adapters; tokens are those of the rows, not padding. Then six shards at once on one frozen base, their adapters stacked, against
one after the other. What a machine cannot do is left out by name. The share of the peak counts 4 operations a parameter and token:
forward, and backward without gradients of the frozen weights.

  python benchmarks/lora_throughput.py                       # on the GPU
  python benchmarks/lora_throughput.py --device cpu --tiny   # every path once, on a model of no size
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
from bench import print_table, scratch
from torch import Tensor, nn
from trainyard.config.architectures import LoraOptions
from trainyard.data.chat_tokens import EncodedRows
from trainyard.lora.batches import make_batch
from trainyard.lora.load import linear_layers, put_adapter
from trainyard.lora.model import LoraChat
from trainyard.lora.packing import pack_rows
from trainyard.train.optimizer import AdamW
from trainyard.train.order import step_ends

LENGTH, PER_STEP, SHARDS, PAD, RATE = 512, 16, 6, 0, 2e-4
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12}  # dense bfloat16 (T4: float16), by the makers' sheets
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
        peak = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0
        return Result(time.perf_counter() - start, sum(tokens for tokens, _ in steps[1:]), [float(x) for x in losses], peak)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    # ---- ours --------------------------------------------------------------------------------------------------
    def train(self, chat: LoraChat, groups: list[np.ndarray], at_once: int, losses: Callable[[dict], Tensor] | None = None,
              full: bool = False) -> Result:  # fmt: skip
        """An optimiser step a group of items, `at_once` sequences at a time, `full`: padded to the whole length."""
        optimizer, lengths = AdamW(chat, 0.0), self.encoded.lengths
        optimizer.lr = RATE

        def step(items: np.ndarray) -> Tensor:
            batches = [make_batch(self.encoded, items[i : i + at_once], PAD, None) for i in range(0, len(items), at_once)]
            weight, total = sum(float(b["weight"].sum()) for b in batches), 0.0
            optimizer.zero_grad()
            for batch in batches:
                batch = {k: v.to(self.device) for k, v in (padded(batch) if full else batch).items()}
                loss = (losses or chat.losses)(batch).sum() / weight
                loss.backward()
                total += loss.detach()
            optimizer.step()
            return total

        return self.timed([(int(lengths[items[items >= 0]].sum()), lambda items=items: step(items)) for items in groups])

    def one_by_one(self) -> Result:
        return self.train(self.chat(), [np.arange(i, i + PER_STEP)[:, None] for i in range(0, self.steps * PER_STEP, PER_STEP)], 1)

    def bins(self) -> list[np.ndarray]:
        """Packed sequences by optimiser step: as many samples a step as without packing."""
        rows = np.arange(len(self.encoded.lengths))
        bins = pack_rows(rows, self.encoded.lengths, LENGTH)
        bins = bins[np.random.default_rng(0).permutation(len(bins))]
        return np.split(bins, step_ends((bins >= 0).sum(1), PER_STEP)[:-1])

    def packed(self, every_logit: bool = False, compiled: bool = False) -> Result:
        chat = self.chat()
        chat._some_logits = not every_logit
        if compiled:
            chat.model.get_base_model().model.compile(dynamic=False)
        return self.train(chat, self.bins(), self.shown, full=compiled)

    def flex(self) -> Result:
        """transformers makes the mask of blocks from positions that begin anew; held against the dense mask before it counts."""
        chat, dense = self.chat("flex_attention"), self.chat()

        def losses(batch: dict) -> Tensor:
            kept = {k: v for k, v in batch.items() if k != "row"}
            positions = kept.pop("position_ids")
            hidden = chat.model.get_base_model().model(input_ids=kept["input_ids"], position_ids=positions, use_cache=False)[0]
            at = kept["scored"][:, 1:].nonzero(as_tuple=True)
            logits = chat.model.get_base_model().lm_head(hidden[at]).float()
            return nn.functional.cross_entropy(logits, kept["labels"][:, 1:][at], reduction="sum")

        batch = {k: v.to(self.device) for k, v in padded(make_batch(self.encoded, self.bins()[0][:1], PAD, None)).items()}
        with torch.no_grad():
            ours, wanted = float(losses(batch)), float(dense.losses(batch).sum())
        if abs(ours - wanted) > 0.01 * wanted:
            raise RuntimeError(f"rows see each other: loss {ours:.3f}, under the block mask {wanted:.3f}")
        del dense
        return self.train(chat, self.bins(), 1, losses, full=True)

    # ---- peers -------------------------------------------------------------------------------------------------
    def rows(self, mask: str) -> Iterator[dict]:
        for i, prompt in enumerate(self.encoded.prompt):
            ids = self.encoded.at(i).tolist()
            answer = [j >= prompt for j in range(len(ids))]
            yield {"input_ids": ids, mask: [int(a) for a in answer]} if mask == "completion_mask" else {
                "input_ids": ids, "labels": [t if a else -100 for t, a in zip(ids, answer)],
            }  # fmt: skip

    def with_trainer(self) -> Result:
        import transformers

        return self._peer(transformers.Trainer, transformers.TrainingArguments, list(self.rows("labels")), {})

    def with_trl(self) -> Result:
        import datasets
        import trl

        datasets.disable_progress_bars()
        more = {"packing": True, "max_length": LENGTH, "dataset_kwargs": {"skip_prepare_dataset": False}}
        return self._peer(trl.SFTTrainer, trl.SFTConfig, datasets.Dataset.from_list(list(self.rows("completion_mask"))), more)

    def _peer(self, trainer: type, arguments: type, rows, more: dict) -> Result:
        from transformers import PrinterCallback, TrainerCallback

        ends: list[float] = []

        class Clock(TrainerCallback):
            def on_step_end(clock, *_, **__) -> None:
                self.wait()
                ends.append(time.perf_counter())

        # Packed, a sequence holds several rows: fewer of them make the step of as many rows.
        a_step = max(1, round(PER_STEP * float(self.encoded.lengths.mean()) / LENGTH)) if more else PER_STEP
        with scratch() as place:
            told = arguments(
                output_dir=str(place), per_device_train_batch_size=1, gradient_accumulation_steps=a_step, num_train_epochs=1,
                learning_rate=RATE, bf16=self.device.type == "cuda", use_cpu=self.device.type == "cpu", report_to=[], save_strategy="no",
                logging_steps=1, disable_tqdm=True, dataloader_pin_memory=False, remove_unused_columns=bool(more), **more,
            )  # fmt: skip
            model = put_adapter(self.base(), LoraOptions(r=8, alpha=16), "random")
            if not more:
                run = trainer(model, told, train_dataset=rows)
            else:
                run = trainer(model, told, train_dataset=rows, processing_class=tokenizer(SIZES[self.size]["vocab_size"]))
            run.add_callback(Clock())
            run.remove_callback(PrinterCallback)
            run.train()
        losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
        share = (len(ends) - 1) / len(ends)
        peak = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0
        return Result(ends[-1] - ends[0], int(self.encoded.lengths.sum() * share), losses, peak)

    # ---- six shards at once ------------------------------------------------------------------------------------
    def together(self) -> tuple[Result, Result]:
        """Six shards' packed sequences, the same a step: all at once with stacked adapters, and shard after shard."""
        steps = max(2, self.steps // SHARDS)
        parts = np.array_split(np.arange(len(self.encoded.lengths)), SHARDS)
        bins = [pack_rows(p, self.encoded.lengths[p], LENGTH) for p in parts]
        count = min(len(b) for b in bins) // steps
        shards = [[b[i * count : (i + 1) * count] for i in range(steps)] for b in bins]
        at_once = self._stacked(list(range(SHARDS)), shards)
        one_by_one = [self._stacked([k], [shards[k]]) for k in range(SHARDS)]
        losses = [sum(step) for step in zip(*(r.losses for r in one_by_one))]
        apart = Result(sum(r.seconds for r in one_by_one), sum(r.tokens for r in one_by_one), losses, max(r.peak for r in one_by_one))
        return at_once, apart

    def _stacked(self, which: list[int], shards: list[list[np.ndarray]]) -> Result:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        model = self.base().requires_grad_(False)
        for i, name in enumerate(linear_layers(model)):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, Stacked(model.get_submodule(name), which, 8, 16, i))
        chat = LoraChat(model, None, "random", LoraOptions(r=8, alpha=16))  # type: ignore[arg-type]
        optimizer = AdamW(chat, 0.0)
        optimizer.lr = RATE

        def step(i: int) -> Tensor:
            widest = max(shard[i].shape[1] for shard in shards)
            items = np.concatenate([np.pad(s[i], ((0, 0), (0, widest - s[i].shape[1])), constant_values=-1) for s in shards])
            batch = {k: v.to(self.device) for k, v in padded(make_batch(self.encoded, items, PAD, None)).items()}
            weights = batch["weight"].view(len(which), -1).sum(1)
            optimizer.zero_grad()
            loss = (chat.losses(batch).view(len(which), -1).sum(1) / weights).sum()  # each adapter's mean: their gradients do not mix
            loss.backward()
            optimizer.step()
            return loss.detach()

        lengths = self.encoded.lengths
        tokens = [sum(int(lengths[s[i][s[i] >= 0]].sum()) for s in shards) for i in range(len(shards[0]))]
        return self.timed([(count, lambda i=i: step(i)) for i, count in enumerate(tokens)])


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


def tokenizer(vocabulary: int):
    """TRL asks for one; rows are ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"<{i}>": i for i in range(vocabulary)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "<0>")), pad_token="<0>", eos_token="<1>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cpu (cuda)")
    parser.add_argument("--tiny", action="store_true", help="a model of no size: that every path runs, not how fast")
    parser.add_argument("--steps", type=int, default=24, help="optimiser steps of 16 rows (24)")
    parser.add_argument("--sequences", type=int, default=4, help="packed sequences at a time (4)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU can be reached; --device cpu --tiny runs every path on a model of no size")
    bench = Bench(device, "tiny" if args.tiny else "1B", args.steps, args.sequences)
    size = sum(p.numel() for p in bench.base().parameters()) - SIZES[bench.size]["vocab_size"] * SIZES[bench.size]["hidden_size"]
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
    peak = next((flops for card, flops in PEAKS.items() if card in name), None)
    cases: dict[str, Callable[[], Result]] = {
        "one row at a time, 16 a step": bench.one_by_one,
        "packed, block mask, every logit": lambda: bench.packed(every_logit=True),
        "packed, block mask, answers' logits": bench.packed,
        "packed, FlexAttention": bench.flex,
        "packed, block mask, compiled": lambda: bench.packed(compiled=True),
        "transformers Trainer and peft": bench.with_trainer,
        "TRL, packing": bench.with_trl,
    }
    rows = []
    for case, run in cases.items():
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        print(f"{case} …", file=sys.stderr, flush=True)
        try:
            found = run()
        except Exception as error:  # what this machine cannot do is no reason to lose the rest
            rows.append([case, "left out", "", "", "", " ".join(str(error).split())[:60] or type(error).__name__])
            continue
        rate = found.tokens / found.seconds
        share = f"{100 * 4 * size * rate / peak:.1f} %" if peak else "–"
        memory = f"{found.peak / 2**30:.1f}" if found.peak else "–"
        rows.append([case, f"{rate:,.0f}", share, memory, f"{found.losses[0]:.3f}", f"{found.losses[-1]:.3f}"])
    print(f"\n{bench.size}, {size:,} parameters without embeddings, {bench.dtype}, {args.steps} steps of {PER_STEP} rows, {name}")
    print_table(["case", "tokens/s", "of peak", "GB", "first loss", "last loss"], rows)
    at_once, apart = bench.together()
    print("\nsix shards on one frozen base, the same packed sequences")
    table = [
        [what, f"{r.seconds:.2f}", f"{r.tokens / r.seconds:,.0f}", f"{r.peak / 2**30:.1f}" if r.peak else "–"]
        for what, r in (("stacked adapters, all at once", at_once), ("one after the other", apart))
    ]
    print_table(["", "seconds", "tokens/s", "GB"], table)
    gaps = [abs(a - b) / SHARDS for a, b in zip(at_once.losses, apart.losses)]
    print(f"  largest difference of a step's mean loss: {max(gaps):.2e}; {apart.seconds / at_once.seconds:.2f} × as fast at once")


if __name__ == "__main__":
    main()
