#!/usr/bin/env python
"""Choose which runs go on to a longer training, from their validation predictions; test predictions take no part.

promotion.json says which run takes which slot, and how sure the choice is: the chance that a run that was dropped is the best, by a
paired bootstrap over groups.
"""

import argparse

from trainyard.command import not_empty_path, run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="JSON, or @file: suite, keep, from_epochs, to_epochs")
    parser.add_argument("--predictions", required=True, nargs="+", type=not_empty_path, help="predictions.parquet of every candidate")
    parser.add_argument(
        "--train-json", required=True, nargs="+", type=not_empty_path, help="train.json of every candidate, in the same order"
    )
    parser.add_argument("--output", required=True, type=not_empty_path, help="promotion.json")
    args = parser.parse_args()
    thread_limit(1)

    from trainyard.config.validation import read_settings
    from trainyard.data.files import write_json
    from trainyard.report.promotion import decide, read_candidates
    from trainyard.report.table import figure

    decision = decide(
        read_settings(args.settings, ("suite", "keep", "from_epochs", "to_epochs")), read_candidates(args.predictions, args.train_json)
    )
    write_json(args.output, decision)
    for row in decision["candidates"]:
        chance = "" if row["chance_best"] is None else f", best with a chance of {row['chance_best']:.1%}"
        went = "goes on" if row["kept"] else "stops"
        interval = f"[{figure(row['ci_low'])}, {figure(row['ci_high'])}]"
        print(f"{row['run']}: {went}; {decision['part']} {decision['metric']} {figure(row['value'])} {interval}{chance}")
    for note in decision["notes"]:
        print(f"note: {note}")


if __name__ == "__main__":
    run_command(main)
