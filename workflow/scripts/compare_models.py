#!/usr/bin/env python
"""Put all runs of a suite beside each other: comparison.csv, comparison.json and a table.

A row a run and metric, and a gathered row (run left empty) over the folds, seeds or shards of a model. With --partial
and --expected, runs without metrics become rows with state failed or missing and, from --summary, the reason.
"""

import argparse
import json
from pathlib import Path

from trainyard.command import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", required=True)
    parser.add_argument("--metrics", nargs="*", default=[], type=Path, help="metrics.json of the runs")
    parser.add_argument("--expected", help='the runs there should be: JSON [{"run": …, "model": …}, …], or @file')
    parser.add_argument("--partial", action="store_true", help="compare what there is; absent files are shown as failed or missing")
    parser.add_argument("--summary", type=Path, help="results/summary.json, for the reasons of failed runs")
    parser.add_argument("--output", required=True, type=Path, help="comparison.csv")
    parser.add_argument("--json", required=True, type=Path, help="comparison.json")
    args = parser.parse_args()

    from trainyard.data.files import read_json, write_json
    from trainyard.report.compare import compare, write_csv
    from trainyard.report.table import comparison_table

    summary = read_json(args.summary) if args.summary and args.summary.exists() else None
    comparison = compare(args.suite, args.metrics, _expected(args.expected), summary, args.partial)
    write_csv(args.output, comparison["rows"])
    write_json(args.json, comparison)
    print(comparison_table(comparison))


def _expected(text: str | None) -> list[dict[str, str]]:
    if not text:
        return []
    try:
        found = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except ValueError as error:
        raise ValueError(f"--expected: not JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(e, dict) and {"run", "model"} <= set(e) for e in found):
        raise ValueError('--expected: needs a JSON list of {"run": …, "model": …}')
    return found


if __name__ == "__main__":
    run_command(main)
