#!/usr/bin/env python
"""Merge LoRA adapters of one base exactly: the weighted mean of their updates B·A, as an adapter that plain peft loads.

Averaging the factors, or peft's `linear`, is something else and can be wrong by the number of adapters. Here the
factors are concatenated, which is exact; the rank becomes the sum of the ranks. --rank N cuts the result to its best
approximation of rank N. certificate.json says how far the result is from the true mean, what went in (SHA-256), and
how much the adapters agree. Adapters that do not belong together are refused by file and field.

Examples:
  merge_adapters.py --models runs/shard01 runs/shard02 runs/shard03 --output merged --strategy average
  merge_adapters.py --models a b --output merged --strategy weighted --weights 3 1
  merge_adapters.py --models a b --output merged --strategy best --metrics a/metrics.json b/metrics.json
  merge_adapters.py --models a b --output merged --validate --base-model base --rows packs/plans/validation.jsonl
"""

import argparse
import sys
from pathlib import Path

from trainyard.command import run_command, thread_limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, type=Path, help="folders with an adapter's .safetensors and config")
    parser.add_argument("--output", required=True, type=Path, help="folder of the merged adapter and its certificate")
    parser.add_argument(
        "--strategy",
        choices=("average", "weighted", "best"),
        default="average",
        help="average: equal weights (the default); weighted: by --weights, or by 1 / validation loss; best: the one of the lowest "
        "validation loss, as it is",
    )
    parser.add_argument("--weights", nargs="+", type=float, help="a weight for each model, 0 or more; scaled to sum 1")
    parser.add_argument("--metrics", nargs="+", type=Path, help="metrics.json or train.json of each model, for its validation loss "
                        "(default: those in the models' folders, where they are needed)")  # fmt: skip
    parser.add_argument("--rank", type=int, help="rank of the result; without it the merge is exact")
    parser.add_argument("--validate", action="store_true", help="load the result with peft on its base and check it (imports torch)")
    parser.add_argument("--base-model", help="--validate: the base's folder or hub name (default: the one the adapters name)")
    parser.add_argument("--rows", type=Path, help="--validate: packed chat rows to measure the answer loss on")
    args = parser.parse_args()
    thread_limit(1)

    from trainyard.lora.losses import validation_losses
    from trainyard.lora.merge import merge_adapters

    losses = None
    if args.metrics or (args.strategy == "best" or (args.strategy == "weighted" and args.weights is None)):
        losses = validation_losses(args.models, args.metrics)
    certificate = merge_adapters(args.models, args.output, args.strategy, args.weights, losses, args.rank)
    weights = ", ".join(f"{w:.4f}" for w in certificate["weights"])
    print(f"{args.output}: {args.strategy} of {len(args.models)} adapters, weights {weights}")
    print(
        f"rank {certificate['rank']}, {certificate['bytes'] / 1e6:.2f} MB, relative error {certificate['relative_error']:.2e} "
        "against the true weighted mean of B·A"
    )
    if certificate["same_file"]:
        print("note: some of the adapters are the same file")
    return check(args) if args.validate else 0


def check(args: argparse.Namespace) -> int:
    """Load the result as any user of peft would, and measure it; 1 when it does not work."""
    from trainyard.lora.trial import try_adapter

    problems, lines = try_adapter(args.output, args.base_model, args.rows)
    for line in lines:
        print(line)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    run_command(main)
