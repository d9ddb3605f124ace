#!/usr/bin/env python
"""Bring a dataset to the local disk: packed and ready to train on (the workflow's way), or as verified raw files.

In the workflow: each file is opened once, hashed, decoded and packed, or listed in quarantine.csv with the reason:
  copy_to_local.py --root DATA --index index.parquet --splits splits.parquet --settings @dataset.json \\
    --output-dir packs/m4singer --quarantine packs/m4singer/quarantine.csv --summary packs/m4singer/summary.json

By itself: raw files are copied and verified, and the annotations' paths rewritten to the copy:
  copy_to_local.py --source /content/drive/MyDrive/crescendai_data --local-root /tmp/crescendai_data \\
    --annotations annotations/synthetic_train_filtered.jsonl --subset --subset-size 10000
"""

import argparse
import os
import signal
from pathlib import Path

from trainyard.command import at_least, not_empty, run_command, thread_limit, without_collector

SUBSET = 10000
LEAST_MB = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flow = parser.add_argument_group("in the workflow")
    flow.add_argument("--root", type=not_empty, help="folder or file of the data")
    flow.add_argument("--index", type=not_empty, help="index.parquet")
    flow.add_argument("--splits", type=not_empty, help="splits.parquet")
    flow.add_argument("--settings", help="the dataset's settings: JSON, or @file")
    flow.add_argument("--output-dir", type=not_empty, help="folder of the packs")
    flow.add_argument("--quarantine", type=not_empty, help="quarantine.csv: a row a refused file, with the reason")
    flow.add_argument("--summary", type=not_empty, help="summary.json: counts, bytes, hours, balance, duplicates")
    flow.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="decoding processes (default: all cores, %(default)s)")
    flow.add_argument(
        "--memory-mb",
        type=at_least(0),
        default=4096,
        help=f"memory a decoding process may use, at least {LEAST_MB} (default %(default)s; 0: any)",
    )
    alone = parser.add_argument_group("by itself")
    alone.add_argument("--source", "--drive-root", type=not_empty, dest="source", help="folder of the data, such as a mounted drive")
    alone.add_argument("--local-root", type=not_empty, help="folder of the copy")
    alone.add_argument(
        "--annotations",
        action="append",
        default=[],
        help="file below the source whose rows name files, by its path there or any other (may be given several times)",
    )
    alone.add_argument("--subset", action="store_true", help=f"copy a subset only, of --subset-size samples (default {SUBSET:,})")
    alone.add_argument("--subset-size", type=at_least(1), help="copy so many samples only, drawn by hash")
    alone.add_argument("--seed", type=int, default=0, help="another seed draws another subset (default %(default)s)")
    parser.add_argument("--max-file-mb", type=at_least(1), default=2048, help="larger files are refused (default %(default)s)")
    parser.add_argument("--reads", type=at_least(1), help="reads in flight (default: on a disk two a core, 8 at most; 64 on a mount)")
    args = parser.parse_args()
    if 0 < args.memory_mb < LEAST_MB:
        parser.error(f"argument --memory-mb: {args.memory_mb} is less than {LEAST_MB}, which its libraries take")
    thread_limit(1)
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # to look for other people's opens the list of every installed package
    # Asked to stop: clean up as after Ctrl+C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.source and args.local_root and not args.index:
        _copy_raw(args)
    elif all((args.root, args.index, args.splits, args.settings, args.output_dir, args.quarantine, args.summary)):
        _pack(args)
    else:
        parser.error("give --source and --local-root; or --root, --index, --splits, --settings, --output-dir, --quarantine and --summary")


def _pack(args: argparse.Namespace) -> None:
    with without_collector():
        import pyarrow.parquet  # noqa: F401 - what the copy reads its index with
        from trainyard.config.validation import read_settings
        from trainyard.data.copy import Limits, LocalCopy
        from trainyard.data.storage import read_threads

    root = Path(args.root).expanduser()
    reads = args.reads or read_threads(root)
    limits = Limits(args.workers, reads, args.max_file_mb << 20, args.memory_mb)
    copy = LocalCopy(root, args.index, args.splits, read_settings(args.settings), limits)
    result = copy.run(Path(args.output_dir), args.quarantine, args.summary)
    for name, pack in result["packs"].items():
        print(f"{name}: {pack['samples']} samples of {pack['groups']} groups, {pack['bytes'] / 1e6:.1f} MB")
    twins = sum(result["duplicates"].values())
    if result["refused"] or twins:
        print(f"{result['refused']} refused, {twins} duplicates: see {args.quarantine}")
    for note in result["notes"]:
        print(f"note: {note}")


def _copy_raw(args: argparse.Namespace) -> None:
    with without_collector():
        from trainyard.data.mirror import mirror
        from trainyard.data.storage import read_threads

    source = Path(args.source).expanduser()
    subset = args.subset_size or (SUBSET if args.subset else None)
    # Absolute: the paths in annotations must hold wherever a training is started from.
    local = Path(args.local_root).expanduser().absolute()
    result = mirror(source, local, args.annotations, subset, args.seed, args.reads or read_threads(source), args.max_file_mb << 20)
    print(f"{result['copied']} files copied, {result['kept']} already there, {result['bytes'] / 1e6:.1f} MB in {args.local_root}")
    for name, rows in result["annotations"].items():
        print(f"{name}: {rows} rows, paths rewritten")
    if result["refused"]:
        print(f"{result['refused']} refused: see {os.path.join(args.local_root, 'quarantine.csv')}")


if __name__ == "__main__":
    run_command(main)
