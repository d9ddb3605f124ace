#!/usr/bin/env python
"""Fit a trivial and a simple baseline beside a model, on the same data, and write their predictions.

Trivial looks at no input (majority, mean, unigram); simple is what ten minutes of work give (logistic regression on
feature statistics, an n-gram). Fitted on the training split, predicted for validation and test; needs no torch.
"""

import argparse
import importlib

from trainyard.command import at_least, by_name, not_empty, run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="the run's settings: JSON, or @file")
    parser.add_argument("--train", required=True, nargs="+", help="pack of the training split; of a merged model, all its shards")
    for split in ("validation", "test"):
        parser.add_argument(f"--{split}", required=True, help=f"pack of the {split} split (with folds: the one pack of all samples)")
    parser.add_argument("--base-model", help="LoRA: folder of the base model, whose tokenizer is used")
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
    parser.add_argument("--output", type=not_empty, required=True, help="baselines.parquet")
    args = parser.parse_args()
    thread_limit(args.threads)

    from trainyard.config.architectures import ARCHITECTURES
    from trainyard.config.validation import read_settings
    from trainyard.data.predictions import PredictionTable
    from trainyard.data.views import joined
    from trainyard.train.splits import open_splits

    settings = read_settings(args.settings, ("format", "fold", "architecture", "options"))
    spec = ARCHITECTURES.get(settings["architecture"])
    if spec is None or spec.format != settings["format"]:
        raise ValueError(f"--settings: format {settings['format']!r} and architecture {settings['architecture']!r} do not go together")
    if args.base_model:
        settings["base_model"] = args.base_model
    fit = importlib.import_module(f"trainyard.baselines.{settings['format']}").baselines
    table = PredictionTable()
    near = by_name("trainyard.data.near").bring_near([*args.train, args.validation, args.test])
    with joined([near[path] for path in args.train]) as pack:
        views = open_splits(settings, {"train": pack, "validation": near[args.validation], "test": near[args.test]})
        for split in ("validation", "test"):
            held = views[split]
            for baseline in fit(settings, views["train"], held):
                table.add(held.pack, baseline.items, split, baseline.parts, level=baseline.level, name=baseline.name)
                print(f"{split}: {baseline.level}: {baseline.name}: {', '.join(baseline.parts)}")
    table.write(args.output)


if __name__ == "__main__":
    run_command(main)
