#!/usr/bin/env python
"""List the samples of a dataset: id, path, size, label and group of each, without opening a sample file.

By hand, with the keys of a dataset in a suite as settings:
  python workflow/scripts/index_dataset.py --root ~/emodb/wav --output index.parquet \\
    --settings '{"format": "audio", "glob": "*.wav", "label": {"pattern": "^.{5}(.)"}, "group": {"pattern": "^(..)"}}'
"""

import argparse
from collections import Counter
from pathlib import Path

from trainyard.command import not_empty, run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=not_empty, required=True, help="folder of the data, or the one file that holds them")
    parser.add_argument("--settings", required=True, help="the dataset's settings: JSON, or @file")
    parser.add_argument("--output", type=not_empty, required=True, help="index.parquet")
    args = parser.parse_args()
    thread_limit(1)

    from trainyard.config.validation import read_settings
    from trainyard.data.index import build_index, typed_dataset
    from trainyard.data.index_file import write_index

    table = build_index(Path(args.root), typed_dataset(read_settings(args.settings)))
    write_index(table, args.output)
    refused = [r for r in table["refused"].to_pylist() if r is not None]
    print(f"{args.root}: {len(table) - len(refused)} samples in {args.output}")
    for reason, count in Counter(r.split(":")[0] for r in refused).most_common(5):
        print(f"  {count} left out: {reason}")


if __name__ == "__main__":
    run_command(main)
