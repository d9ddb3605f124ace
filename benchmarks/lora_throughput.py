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
import warnings
from collections.abc import Callable

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from bench import print_table
from lora_paths import PER_STEP, SIZES, Bench, Result, flex, one_by_one, packed
from lora_peers import with_trainer, with_trl
from lora_shards import SHARDS, together

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12}  # dense bfloat16 (T4: float16), by the makers' sheets


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
        "one row at a time, 16 a step": lambda: one_by_one(bench),
        "packed, block mask, every logit": lambda: packed(bench, every_logit=True),
        "packed, block mask, answers' logits": lambda: packed(bench),
        "packed, FlexAttention": lambda: flex(bench),
        "packed, block mask, compiled": lambda: packed(bench, compiled=True),
        "transformers Trainer and peft": lambda: with_trainer(bench),
        "TRL, packing": lambda: with_trl(bench),
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
    at_once, apart = together(bench)
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
