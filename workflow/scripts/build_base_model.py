#!/usr/bin/env python
"""Pretrain a tiny Llama and its tokenizer on chat rows: the base for LoRA where no base model is given.

Writes config.json, model.safetensors, tokenizer.json, tokenizer_config.json and base.json (losses, sizes). Any folder
that transformers loads, or a hub name, can take its place.

Example, by hand:
  python workflow/scripts/build_base_model.py --settings '{"steps": 500}' --train packs/plans_base/train.jsonl \\
    --validation packs/plans_base/validation.jsonl --output base
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from trainyard.command import at_least, by_name, not_empty_path, run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", default="{}", help="width, layers, steps, lr …: JSON, or @file (the `base` keys of a model's config)")
    parser.add_argument("--train", required=True, help="packed chat rows to train on (JSONL with prompt and answer)")
    parser.add_argument("--validation", required=True, help="packed chat rows to measure the loss on")
    parser.add_argument("--output", required=True, type=not_empty_path, help="folder of the base model")
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
    args = parser.parse_args()
    thread_limit(args.threads)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

    from trainyard.config.schema import Base
    from trainyard.config.validation import read_settings, validate
    from trainyard.lora.base_model import build_base_model

    near = by_name("trainyard.data.near").bring_near([args.train, args.validation])
    train, validation = Path(near[args.train]), Path(near[args.validation])
    report = build_base_model(validate(Base, read_settings(args.settings), "base"), train, validation, args.output, args.threads)
    print(
        f"{args.output}: {report['parameters']} parameters, {report['vocabulary']} tokens, answer loss {report['validation_loss']:.4f} "
        f"on {report['validation_rows']} held-out rows after {report['steps']} steps"
    )


if __name__ == "__main__":
    run_command(main)
