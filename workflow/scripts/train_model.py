#!/usr/bin/env python
"""Train one model (or adapter) from its packs, or go on from its last checkpoint.

Example, by hand:
  python workflow/scripts/train_model.py --settings @run.json --train results/kmidi/packs/lakh/train.safetensors \\
    --validation …/validation.safetensors --test …/test.safetensors --checkpoints checkpoints/kmidi/melody_transformer \\
    --output results/kmidi/runs/melody_transformer
The settings of a finished run are in its train.json under meta_info.settings.

Ends with 0 when trained, 75 when it was asked to stop and saved (run it again to go on), 1 on an error.
"""

import argparse
import sys

from trainyard.command import attempt_log, run_command, thread_limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="the run's settings: JSON, or @file")
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--{split}", required=True, help=f"pack of the {split} split (with folds: the one pack of all samples)")
    parser.add_argument("--base-model", help="LoRA: folder or hub name of the base model")
    parser.add_argument("--preflight", help="preflight.json of the model; training refuses when its verdict is fail")
    parser.add_argument("--checkpoints", required=True, help="folder of this run's checkpoints")
    parser.add_argument("--output", required=True, help="folder of the results")
    parser.add_argument("--code", default="by-hand", help="fingerprint of the code, part of the checkpoints' identity")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--log", help="log file; one of its own is kept for every attempt beside it")
    parser.add_argument("--watch-parent", action="store_true", help="save and stop when the process that started this one is gone")
    args = parser.parse_args()
    attempt_log(args.log)
    thread_limit(args.threads)

    from trainyard.config.jobs import read_settings
    from trainyard.train.stopping import RESUME_ME, StopFlag, Stopped

    stop = StopFlag(args.watch_parent).listen()
    from trainyard.train.job import refuse_failed_preflight, train_run

    if args.preflight:
        refuse_failed_preflight(args.preflight)
    packs = {"train": args.train, "validation": args.validation, "test": args.test}
    paths = {"base_model": args.base_model} if args.base_model else {}
    try:
        train_run(
            read_settings(args.settings), packs, args.checkpoints, args.output,
            paths=paths, code=args.code, device=args.device, threads=args.threads, stop=stop,
        )  # fmt: skip
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return RESUME_ME
    return 0


if __name__ == "__main__":
    run_command(main)
