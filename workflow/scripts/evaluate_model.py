#!/usr/bin/env python
"""Turn a run's held-out predictions into metrics.json: figures with intervals, beside a trivial and a simple baseline.

Intervals come from 2,000 draws of whole groups (patients, singers, songs). Differences to the baselines are paired:
same items, same draws. Needs no torch and retrains nothing.
"""

import argparse

from trainyard.command import not_empty_path, run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="the run's settings: JSON, or @file")
    parser.add_argument("--predictions", required=True, type=not_empty_path, help="predictions.parquet of the run")
    parser.add_argument("--baselines", type=not_empty_path, help="baselines.parquet of the run")
    parser.add_argument("--train-json", type=not_empty_path, help="train.json of the run, carried over into metrics.json")
    parser.add_argument("--output", required=True, type=not_empty_path, help="metrics.json")
    args = parser.parse_args()
    thread_limit(1)

    from trainyard.config.validation import read_settings
    from trainyard.data.files import read_json, write_json
    from trainyard.report.evaluate import evaluate
    from trainyard.report.table import figure

    result = evaluate(
        read_settings(args.settings, ("suite", "run", "model")),
        args.predictions,
        args.baselines,
        read_json(args.train_json) if args.train_json else {},
    )
    write_json(args.output, result)
    for m in result["metrics"]:
        beside = "".join(f"; {m[k]['name']} {figure(m[k]['value'])}" for k in ("trivial", "simple") if k in m)
        print(f"{m['split']} {m['part']} {m['metric']} {figure(m['value'])} [{figure(m['ci_low'])}, {figure(m['ci_high'])}]{beside}")
    for note in result["notes"]:
        print(f"note: {note}")


if __name__ == "__main__":
    run_command(main)
