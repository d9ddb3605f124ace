#!/usr/bin/env python
"""Average the predictions of several runs of the same task: one more row in the comparison, without training or torch.

Writes predictions.parquet and train.json as a training does, and baselines.parquet: the baselines of its members, and beside them the
member that is best on validation, so that evaluate_model compares pair by pair with it too.
"""

import argparse

from trainyard.command import not_empty_path, run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="JSON, or @file: suite, run, model, architecture (for the headline metric), fold")
    parser.add_argument("--predictions", required=True, nargs="+", type=not_empty_path, help="predictions.parquet of every member")
    parser.add_argument("--train-json", required=True, nargs="+", type=not_empty_path, help="train.json of every member, in the same order")
    parser.add_argument("--baselines", required=True, type=not_empty_path, help="baselines.parquet of a member")
    parser.add_argument("--output", required=True, type=not_empty_path, help="folder of the ensemble")
    args = parser.parse_args()
    thread_limit(1)

    import pyarrow.parquet as pq
    from trainyard.config.validation import read_settings
    from trainyard.data.files import replacing, write_json
    from trainyard.report.ensemble import average, best_member, ensemble_info, rivals
    from trainyard.report.promotion import read_candidates

    settings = read_settings(args.settings, ("suite", "run", "model", "architecture"))
    members = read_candidates(args.predictions, args.train_json)
    best = best_member(members)
    for name, table in (("predictions", average(members)), ("baselines", rivals(args.baselines, best))):
        with replacing(args.output / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")
    info = ensemble_info(settings, members, best)
    write_json(args.output / "train.json", info)
    print(info["meta_info"]["report"]["ensemble"])


if __name__ == "__main__":
    run_command(main)
