#!/usr/bin/env python
"""Try everything that a training needs, before it costs hours: packs, disk, decoders, labels, leaks, model, one real step,
memory, time. Prints a table and writes it as JSON; ends with 0 whatever the verdict (training reads it and refuses).

Example, by hand:
  python workflow/scripts/preflight_check.py --settings @run.json --train …/train.safetensors \\
    --validation …/validation.safetensors --test …/test.safetensors --output preflight.json
"""

import argparse
import shutil
from pathlib import Path

from trainyard.command import at_least, by_name, run_command, thread_limit

# A pack on a mount that a training would copy first is copied here already, up to what a mount of 100 MB/s gives in half a minute;
# a larger one is looked at from afar.
NEAR_BYTES = 3 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="the run's settings: JSON, or @file")
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--{split}", required=True, help=f"pack of the {split} split (with folds: the one pack of all samples)")
    parser.add_argument("--base-model", help="LoRA: folder or hub name of the base model")
    parser.add_argument("--root", help="folder of the raw data: its storage is measured")
    parser.add_argument("--index", help="index.parquet of the raw data: which of its files are opened, and which decoders are in use")
    parser.add_argument(
        "--checkpoints", default="checkpoints", help="folder of the checkpoints, for the room they need (default %(default)s)"
    )
    parser.add_argument("--runs", type=at_least(1), default=1, help="runs of the model, which share the disk (default %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--gpus", type=at_least(0), default=0, help="GPUs that the configuration asks for (default %(default)s)")
    parser.add_argument("--gpu-slots", type=at_least(1), default=1, help="runs that one GPU holds at once (default %(default)s)")
    parser.add_argument("--memory-mb", type=at_least(0), default=0, help="memory promised to the scheduler, MB (default: not known)")
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
    parser.add_argument("--output", required=True, type=Path, help="preflight.json")
    args = parser.parse_args()
    thread_limit(args.threads)

    from trainyard.config.jobs import read_job
    from trainyard.config.work import work_of
    from trainyard.data.errors import DataError
    from trainyard.data.files import write_json

    settings = read_job(args.settings)
    device = by_name("trainyard.host.slots").hold_gpu(args.device, f"preflight {settings['suite']}/{settings['model']}", args.gpu_slots)
    from trainyard.train.preflight import Preflight
    from trainyard.train.preflight_files import bytes_of_others, sampled_paths
    from trainyard.train.preflight_table import table

    packs = {split: getattr(args, split) for split in ("train", "validation", "test")}
    try:
        near = by_name("trainyard.data.near").bring_near(packs.values(), most=NEAR_BYTES)
    except DataError as error:  # the checks say it again, each for itself
        print(f"note: {error}")
        near = {path: path for path in packs.values()}
    paths = {"base_model": args.base_model} if args.base_model else {}
    report = Preflight(
        settings, {split: near[path] for split, path in packs.items()}, paths, args.checkpoints, device, args.threads, args.runs,
        bytes_of_others(args.output.parent, settings["suite"], settings["model"]), args.root,
        sampled_paths(args.index) if args.index else (), args.gpus, args.memory_mb,
        far={split: path for split, path in packs.items() if near[path] != path},
    ).run()  # fmt: skip
    # What the prediction is of, for a plan that may be of another scale.
    write_json(args.output, report | {"work": work_of(settings), "epochs": settings["epochs"]})
    print(table(report, shutil.get_terminal_size((80, 24)).columns))


if __name__ == "__main__":
    run_command(main)
