#!/usr/bin/env python
"""Merge LoRA adapters of one base exactly: the weighted mean of their updates B·A, as an adapter that plain peft loads.

Averaging the factors, or peft's `linear`, is something else and can be wrong by the number of adapters. Here the
factors are concatenated, which is exact; the rank becomes the sum of the ranks. --rank N cuts the result to its best
approximation of rank N, --tolerance 0.01 to the smallest rank whose relative error is at most 1 %. certificate.json
and certificate.html say how far the result is from the true mean, what went in (SHA-256), and how much the adapters
agree. Adapters that do not belong together are refused by file and field; torch is not needed.

ties, dare and magnitude_prune change the updates value by value, so their result is not of low rank: it is written as
its best approximation of --rank (default: the sum of the ranks), with the exact error of that in the certificate.

Examples:
  merge_adapters.py --models runs/shard01 runs/shard02 runs/shard03 --output merged --strategy average
  merge_adapters.py --models a b --output merged --strategy weighted --weights 3 1
  merge_adapters.py --models a b --output merged --strategy weighted --weights samples --tolerance 0.001
  merge_adapters.py --models a b --output merged --strategy best --metrics a/metrics.json b/metrics.json
  merge_adapters.py --models a b --output merged --strategy ties --density 0.3 --rank 32 --dtype bfloat16
  merge_adapters.py --models a b --output merged --validate --base-model base --rows packs/plans/validation.jsonl
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from trainyard.command import at_least, by_name, not_empty_path, run_command, thread_limit

RECIPE = ("rank", "tolerance", "dtype", "density", "seed", "mixed", "same_base")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, type=not_empty_path, help="folders with an adapter's .safetensors and config")
    parser.add_argument("--output", required=True, type=not_empty_path, help="folder of the merged adapter and its certificate")
    parser.add_argument(
        "--strategy",
        choices=("average", "weighted", "best", "ties", "dare", "magnitude_prune"),
        default="average",
        help="average: equal weights (the default); weighted: by --weights, or by 1 / validation loss; best: the one of the lowest "
        "validation loss, as it is; ties, dare, magnitude_prune: on the values of the updates, with --density",
    )
    parser.add_argument("--weights", nargs="+", metavar="W", help="a weight for each model, 0 or more, scaled to sum 1; or `loss` (by "
                        "1 / validation loss), or `samples` (by training samples)")  # fmt: skip
    parser.add_argument(
        "--metrics", nargs="+", type=not_empty_path,
        help="metrics.json or train.json of each model, for its validation loss and samples (default: those in the models' folders, where "
        "they are needed)",
    )  # fmt: skip
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rank", type=at_least(1), help="rank of the result; without it and --tolerance the merge is exact")
    size.add_argument("--tolerance", type=float, help="largest relative error against the true mean: the smallest rank that keeps it")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="numbers of the result (float32)")
    parser.add_argument("--density", type=float, help="ties, dare, magnitude_prune: share of the values that stays (0.5)")
    parser.add_argument("--seed", type=int, help="dare: which values are dropped (0)")
    parser.add_argument(
        "--mixed", action="store_true", help="also merge adapters of different rank, alpha or rsLoRA, each at its own scale"
    )
    parser.add_argument(
        "--same-base", action="store_true", help="the adapters name their base differently (other paths, other people), and it is the same"
    )
    parser.add_argument("--threads", type=at_least(1), default=2, help="layers that are merged at a time (2)")
    parser.add_argument("--validate", action="store_true", help="load the result with peft on its base and check it (imports torch)")
    parser.add_argument("--base-model", help="--validate: the base's folder or hub name (default: the one the adapters name)")
    parser.add_argument("--rows", type=not_empty_path, help="--validate: packed chat rows to measure the answer loss on")
    args = parser.parse_args()
    thread_limit(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is half written is removed

    from trainyard.data.chat_tokens import refuse_absent
    from trainyard.host.allocator import keep_freed_memory
    from trainyard.lora.losses import validation_losses
    from trainyard.lora.merge import merge_adapters
    from trainyard.lora.samples import training_samples

    refuse_unused(parser, args)
    keep_freed_memory()
    weights = given_weights(args.weights)
    if args.validate and args.base_model:
        refuse_absent(args.base_model)
    by_loss = weights == "loss" or args.strategy == "best" or (args.strategy == "weighted" and weights is None)
    certificate = merge_adapters(
        args.models,
        args.output,
        args.strategy,
        losses=validation_losses(args.models, args.metrics) if by_loss else None,
        samples=training_samples(args.models, args.metrics) if weights == "samples" else None,
        threads=args.threads,
        say=lambda line: print(line, flush=True),
        weights=weights,
        **{k: getattr(args, k) for k in RECIPE if getattr(args, k) is not None},
    )
    # New looks of the page are no reason to merge again.
    by_name("trainyard.report.certificate_page").write_page(certificate, args.output / "certificate.html")
    for line in told(certificate, args.output):
        print(line)
    return check(args) if args.validate else 0


def refuse_unused(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """An argument that would change nothing is a mistake about what it does."""
    from trainyard.lora.recipe import ON_VALUES

    if args.density is not None and args.strategy not in ON_VALUES:
        parser.error(f"argument --density: {', '.join(ON_VALUES)} alone cut values, and the strategy is {args.strategy}")
    if args.seed is not None and args.strategy != "dare":
        parser.error(f"argument --seed: dare alone draws at random, and the strategy is {args.strategy}")
    if not args.validate and (args.base_model or args.rows):
        parser.error(f"argument --{'base-model' if args.base_model else 'rows'}: is for --validate, which is not given")


def given_weights(words: list[str] | None) -> list[float] | str | None:
    if words is None or words in (["loss"], ["samples"]):
        return words[0] if words else None
    try:
        return [float(word) for word in words]
    except ValueError:
        raise ValueError(f"--weights: expected a number for each model, `loss` or `samples`, not '{' '.join(words)}'") from None


def told(certificate: dict[str, Any], output: Path) -> list[str]:
    """The result in a few lines."""
    c, count = certificate, len(certificate["inputs"])
    error = f"{c['relative_error']:.2e}"
    if "approximation_error" in c:
        figures = (
            f"leaves out {c['approximation_error']:.2%} of what {c['strategy']} made, which differs from the weighted mean of B·A "
            f"by intent: relative difference of the result {error}"
        )
    elif c["exact"]:
        figures = f"exact: relative error {error} against the weighted mean of B·A, the rounding to {c['dtype']}"
    else:
        figures = f"relative error {error} against the weighted mean of B·A, of which rounding to {c['dtype']} {c['rounding_error']:.1e}"
    return [
        f"{output}: {c['strategy']} of {count} adapter{'s' if count > 1 else ''}, weights {', '.join(f'{w:.4f}' for w in c['weights'])}",
        f"rank {c['rank']}, {c['bytes'] / 1e6:.2f} MB, {figures}",
        f"rank {c['rank_for']['1%']} keeps the mean within 1 %, rank {c['rank_for']['0.1%']} within 0.1 %",
        *(["note: some of the adapters are the same file"] if c["same_file"] else []),
    ]


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
