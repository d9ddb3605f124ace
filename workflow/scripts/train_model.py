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
import json
import os
import sys

from trainyard.command import at_least, attempt_log, by_name, not_empty, run_command, share_of_machine, start_anew, thread_limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", help="the run's settings: JSON, or @file")
    parser.add_argument("--promotion", help="instead of --settings: promotion.json, to train on the run that it has in --slot")
    parser.add_argument("--slot", help="with --promotion: promoted-1, promoted-2, …")
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--{split}", required=True, help=f"pack of the {split} split (with folds: the one pack of all samples)")
    parser.add_argument("--base-model", help="LoRA: folder or hub name of the base model")
    parser.add_argument("--base-name", help="LoRA: what the adapter calls its base, where --base-model is a copy of it (--base-model)")
    parser.add_argument(
        "--preflight",
        help="preflight.json of the model; training refuses when its verdict is fail, or when this machine lacks what it says is needed",
    )
    parser.add_argument("--checkpoints", type=not_empty, required=True, help="folder of this run's checkpoints")
    parser.add_argument("--output", type=not_empty, required=True, help="folder of the results")
    parser.add_argument(
        "--code", default="by-hand", help="fingerprint of the code, part of the checkpoints' identity; of a slot: JSON, one for each model"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--log", help="log file; one of its own is kept for every attempt beside it")
    parser.add_argument("--memory-mb", type=at_least(0), default=0, help="on a CPU, the most memory this run may take, MB; 0: as it comes")
    parser.add_argument("--deadline", help="save and stop then: 2026-11-24T18:00, 18:00, 7h30m (default: $TRAINYARD_DEADLINE)")
    parser.add_argument("--tensorboard", action="store_true", help="events for TensorBoard below --checkpoints (or $TRAINYARD_TENSORBOARD)")
    share_of_machine(parser)
    args = parser.parse_args()
    if bool(args.settings) == bool(args.promotion) or bool(args.promotion) != bool(args.slot):
        parser.error("give --settings, or --promotion with --slot")
    attempt_log(args.log)
    thread_limit(args.threads)
    if not args.memory_mb:
        by_name("trainyard.host.allocator").keep_freed_memory()  # every step asks for the same sizes again

    from trainyard.config.deadline import read_deadline
    from trainyard.config.jobs import read_job, typed_job
    from trainyard.train.attempts import attempt
    from trainyard.train.promotion import read_slot
    from trainyard.train.stopping import RESUME_ME, StartAnew, StopFlag, Stopped, batch_deadline

    text = args.deadline or os.environ.get("TRAINYARD_DEADLINE")
    stop = StopFlag(args.watch_parent, read_deadline(text) if text else batch_deadline()).listen()
    promoted = read_slot(args.promotion, args.slot) if args.promotion else None
    settings = typed_job(promoted.long, args.promotion) if promoted else read_job(args.settings)
    code = code_of(args.code, settings["model"])
    name = promoted.slot if promoted else settings["run"]
    # Before a GPU is held: it would wait for the copy.
    near = by_name("trainyard.data.near").bring_near([args.train, args.validation, args.test], stop=stop.requested)
    device = by_name("trainyard.host.slots").hold_gpu(args.device, f"{settings['suite']}/{name}", args.gpu_slots, stop.requested)
    if device is None:
        print(f"stopped: {stop.reason}, while waiting for a GPU", file=sys.stderr)
        return RESUME_ME
    packs = {split: near[getattr(args, split)] for split in ("train", "validation", "test")}
    paths = {name: text for name in ("base_model", "base_name") if (text := getattr(args, name))}
    try:
        mirrored = by_name("trainyard.machines.mirror").beside()
        with attempt(promoted.folder(args.checkpoints) if promoted else args.checkpoints), mirrored as elsewhere:
            from trainyard.train.job import train_run

            train_run(
                settings, packs, args.checkpoints, args.output, paths=paths, code=code, device=device,
                threads=args.threads, stop=stop, preflight=args.preflight, memory_mb=args.memory_mb, promoted=promoted,
                elsewhere=elsewhere,
                events=args.tensorboard or os.environ.get("TRAINYARD_TENSORBOARD") == "1",
            )  # fmt: skip
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return RESUME_ME
    except StartAnew as reason:
        print(f"starting anew: {reason}")
        start_anew()
    return 0


def code_of(text: str, model: str) -> str:
    """The fingerprint of the code: as given, or a model's of several in JSON."""
    if not text.startswith("{"):
        return text
    try:
        return str(json.loads(text)[model])
    except (ValueError, KeyError):
        raise ValueError(f"--code: expected a fingerprint, or JSON that has one for {model}, not {text[:80]!r}") from None


if __name__ == "__main__":
    run_command(main)
