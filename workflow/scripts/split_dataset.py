#!/usr/bin/env python
"""Divide a dataset into train, validation and test, folds or shards; or a folder of JSONL into shards by itself.

In the workflow, on an index:
  split_dataset.py --index index.parquet --settings @dataset.json --output splits.parquet --summary splits.json

By itself, on JSONL files: exact shards (sizes differ by at most one), disjoint, the same from the same seed on any machine:
  split_dataset.py --source housebrain_dataset --output housebrain_splits --shards 6 --eval-fraction 0.02 --zip
writes shard-01.jsonl … shard-06.jsonl, eval.jsonl and splits.json: rows, bytes and xxh3 (128 bits, as `xxhsum -H2` prints it) of each
file, SHA-256 of each archive. A line that is no JSON object ends in quarantine.csv with its number.
"""

import argparse
import os
from pathlib import Path

from trainyard.command import not_empty, run_command, thread_limit, without_collector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=not_empty, required=True, help="splits.parquet; by itself: the folder of the shards")
    flow = parser.add_argument_group("in the workflow")
    flow.add_argument("--index", type=not_empty, help="index.parquet")
    flow.add_argument("--settings", help="the dataset's settings: JSON, or @file")
    flow.add_argument("--summary", type=not_empty, help="splits.json: counts, balance, seed, checksum")
    alone = parser.add_argument_group("by itself")
    alone.add_argument("--source", type=not_empty, help="a JSONL file, or a folder of them")
    alone.add_argument("--shards", type=int, default=6, help="number of shards (default %(default)s)")
    alone.add_argument("--eval-fraction", type=float, default=0.02, help="share of the rows for eval.jsonl (default %(default)s; 0: none)")
    alone.add_argument("--seed", type=int, default=0, help="another seed gives another division (default %(default)s)")
    alone.add_argument("--zip", action="store_true", help="also write an archive of each file, to upload")
    args = parser.parse_args()
    thread_limit(1)
    if args.source and args.index:
        parser.error("give --source (JSONL by itself) or --index (in the workflow), not both")
    if args.source:
        _split_files(args)
    elif args.index and args.settings and args.summary:
        _split_index(args)
    else:
        parser.error("give --source DIR, or --index, --settings and --summary together")


def _split_files(args: argparse.Namespace) -> None:
    with without_collector():
        from trainyard.data.split_lines import split_lines

        result = split_lines(Path(args.source), Path(args.output), args.shards, args.eval_fraction, args.seed % 2**64, args.zip)
    for entry in result.summary["files"]:
        print(f"{entry['file']}: {entry['rows']:,} rows, {entry['bytes'] / 1e6:.1f} MB")
    if result.refused:
        print(f"{result.refused:,} lines left out: see {os.path.join(args.output, 'quarantine.csv')}")


def _split_index(args: argparse.Namespace) -> None:
    from trainyard.config.validation import read_settings
    from trainyard.data.files import write_json
    from trainyard.data.index import typed_dataset
    from trainyard.data.index_file import open_index
    from trainyard.data.split import split_samples
    from trainyard.data.split_file import write_splits
    from trainyard.data.split_summary import summarise

    dataset = typed_dataset(read_settings(args.settings))
    index, meta = open_index(args.index)
    splits = split_samples(index, dataset)
    summary = summarise(index, meta, splits, dataset)
    write_splits(index, splits, args.output)
    write_json(args.summary, summary)
    for name, part in summary["splits"].items():
        print(f"{name}: {part['samples']} samples of {part['groups']} groups ({part['share']:.1%})")
    if "folds" in summary:
        print(
            "folds: " + ", ".join(str(f["samples"]) for f in summary["folds"]) + f"; {summary['inner']['samples']} of them for validation"
        )
    if "shards" in summary:
        print("shards: " + ", ".join(f"{n:,}" for n in summary["shards"]))
    for note in summary["notes"]:
        print(f"note: {note}")


if __name__ == "__main__":
    run_command(main)
