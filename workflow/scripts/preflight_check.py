#!/usr/bin/env python
"""Try everything that a training needs, before it costs hours: packs, disk, decoders, labels, leaks, model, one real step,
memory, time. Prints a table and writes it as JSON; ends with 0 whatever the verdict (training reads it and refuses).

Example, by hand:
  python workflow/scripts/preflight_check.py --settings @run.json --train …/train.safetensors \\
    --validation …/validation.safetensors --test …/test.safetensors --output preflight.json
"""

import argparse

from trainyard.command import run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="the run's settings: JSON, or @file")
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--{split}", required=True, help=f"pack of the {split} split (with folds: the one pack of all samples)")
    parser.add_argument("--base-model", help="LoRA: folder or hub name of the base model")
    parser.add_argument(
        "--checkpoints", default="checkpoints", help="folder of the checkpoints, for the room they need (default %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--output", required=True, help="preflight.json")
    args = parser.parse_args()
    thread_limit(args.threads)

    from trainyard.config.jobs import read_settings
    from trainyard.data.files import write_json

    settings = read_settings(args.settings)
    from trainyard.train.preflight import Preflight, table

    packs = {split: getattr(args, split) for split in ("train", "validation", "test")}
    paths = {"base_model": args.base_model} if args.base_model else {}
    report = Preflight(settings, packs, paths, args.checkpoints, args.device, args.threads).run()
    write_json(args.output, report)
    print(table(report))


if __name__ == "__main__":
    run_command(main)
