#!/usr/bin/env python
"""Write what a trained transformer extractor attends to, for a few test samples, as the report draws it."""

import argparse
from pathlib import Path

from trainyard.command import at_least, by_name, run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="the run's settings: JSON, or @file")
    parser.add_argument("--model", required=True, help="model.safetensors of the run")
    parser.add_argument("--train", required=True, help="pack of the training split, which the model was built for")
    parser.add_argument("--test", required=True, help="pack of the test split")
    parser.add_argument("--output", required=True, type=Path, help="file of the maps (.safetensors)")
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
    args = parser.parse_args()
    thread_limit(args.threads)

    from safetensors.torch import load_file
    from trainyard.config.jobs import typed_options
    from trainyard.config.validation import read_settings
    from trainyard.data.views import open_view
    from trainyard.models.attention import write_attention
    from trainyard.models.registry import architecture

    settings = read_settings(args.settings, ("architecture", "fold", "model", "options", "run"))
    near = by_name("trainyard.data.near").bring_near([args.train, args.test])
    train, test = (open_view(near[path], split, settings["fold"]) for path, split in ((args.train, "train"), (args.test, "test")))
    model = architecture(settings["architecture"]).from_pack(typed_options(settings), train.pack, train.rows, {})
    model.load_trainable_state(load_file(args.model))
    count = write_attention(model, test, args.output, {"run": settings["run"], "model": settings["model"]})
    print(f"{settings['run']}: attention of {count} samples")


if __name__ == "__main__":
    run_command(main)
