#!/usr/bin/env python
"""Write what a trained transformer extractor attends to, for a few test samples, as the report draws it."""

import argparse

from trainyard.command import at_least, by_name, not_empty_path, run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="the run's settings: JSON, or @file")
    parser.add_argument("--model", required=True, help="model.safetensors of the run")
    parser.add_argument("--train", required=True, help="pack of the training split, which the model was built for")
    parser.add_argument("--test", required=True, help="pack of the test split")
    parser.add_argument("--output", required=True, type=not_empty_path, help="file of the maps (.safetensors)")
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
    args = parser.parse_args()
    thread_limit(args.threads)

    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from trainyard.config.architectures import ARCHITECTURES
    from trainyard.config.jobs import typed_options
    from trainyard.config.validation import read_settings
    from trainyard.models.attention import write_attention
    from trainyard.models.registry import architecture
    from trainyard.train.splits import open_splits

    settings = read_settings(args.settings, ("architecture", "fold", "format", "model", "options", "run"))
    spec = ARCHITECTURES.get(settings["architecture"])
    if spec is None or not spec.attention:
        known = ", ".join(name for name, s in ARCHITECTURES.items() if s.attention)
        raise ValueError(f"--settings: architecture: {settings['architecture']!r} has no attention maps; {known} have")
    near = by_name("trainyard.data.near").bring_near([args.train, args.test])
    views = open_splits(settings, {"train": near[args.train], "test": near[args.test]})
    model = architecture(settings["architecture"]).from_pack(typed_options(settings), views["train"].pack, views["train"].rows, {})
    try:
        model.load_trainable_state(load_file(args.model))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{args.model}: no weights of this model: {' '.join(str(error).split())[:300]}") from None
    count = write_attention(model, views["test"], args.output, {"run": settings["run"], "model": settings["model"]})
    print(f"{settings['run']}: attention of {count} samples")


if __name__ == "__main__":
    run_command(main)
