#!/usr/bin/env python
"""Run a training script that was found in a folder, isolated: own process group, working folder, log and time limit.

The script gets --epochs, --folds, --batch-size and --output-dir where they are set and its source mentions them, and all
of extra_args. Metrics are taken from a metrics.json (or results.json) it writes into its output folder:
  {"metrics": [{"part": "diagnosis", "split": "test", "metric": "auc", "value": 0.8, "n": 200}]}
Beside these each may have ci_low, ci_high, groups, direction (max or min), trivial and simple {"name", "value"}, and
vs_trivial and vs_simple {"difference", "ci_low", "ci_high", "p_better"}, above zero where the script's model is better.
Its output goes to the log; each attempt has its own beside it.
"""

import argparse
import hashlib
import math
import shutil

from trainyard.command import attempt_log, by_name, not_empty_path, run_command, share_of_machine, thread_limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", required=True, type=not_empty_path)
    parser.add_argument(
        "--settings", required=True, help="JSON, or @file: suite, run, minutes; optional: epochs, folds, batch_size, extra_args (a list)"
    )
    parser.add_argument(
        "--output", required=True, type=not_empty_path, help="folder for metrics.json and train.json; below it output/ and work/"
    )
    parser.add_argument("--log", type=not_empty_path, help="log file (default: script.log in the output folder)")
    share_of_machine(parser)
    args = parser.parse_args()
    log = args.log or args.output / "script.log"
    attempt_log(str(log))

    from trainyard.config.validation import read_settings
    from trainyard.data.files import write_json
    from trainyard.report.script_metrics import metrics_files, read_script_metrics
    from trainyard.train.found_script import ScriptError, check_outcome, may_use_gpu, run_script, script_arguments
    from trainyard.train.run_info import run_info, utc_now
    from trainyard.train.stopping import StopFlag

    settings = read_settings(args.settings, ("run", "suite"))
    source = args.script.read_bytes()
    thread_limit(args.threads)
    minutes, extra = settings.get("minutes", 60), settings.get("extra_args", [])
    if type(minutes) not in (int, float) or not 0 < minutes < math.inf:
        raise ValueError(f"--settings: minutes: expected a number above 0, found {minutes!r}")
    if not isinstance(extra, list):  # a text would be passed on letter by letter
        raise ValueError(f"--settings: extra_args: expected a list, found {extra!r}")
    started = utc_now()
    output, work = (args.output / name for name in ("output", "work"))
    shutil.rmtree(work, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    for old in (*metrics_files([output]), args.output / "metrics.json", args.output / "train.json"):
        old.unlink(missing_ok=True)  # of an earlier attempt; the script's other files may be what it resumes from
    if may_use_gpu(source):
        gone = StopFlag(args.watch_parent).requested
        if by_name("trainyard.host.slots").hold_gpu("auto", f"{settings['suite']}/{settings['run']}", args.gpu_slots, gone) is None:
            raise ScriptError("the workflow that started this run is gone, while it waited for a GPU")
    arguments = script_arguments(source.decode("utf-8", "replace"), settings, output.resolve())
    print(f"{settings['suite']}/{settings['run']}: {args.script} {' '.join(arguments)}", flush=True)
    begins = log.stat().st_size
    outcome = run_script(args.script, arguments, work, output, minutes, args.watch_parent)
    check_outcome(outcome, minutes, log, begins)
    metrics, notes = read_script_metrics([output, work])
    for note in notes:
        print(f"note: {note}")
    record = {
        "run_info": run_info("decided by the script", args.threads, started),
        "train_info": {"seconds": outcome.seconds, "epochs": settings.get("epochs")},
        "meta_info": {
            "script": args.script.name,
            "sha256": hashlib.sha256(source).hexdigest(),
            "arguments": arguments,
            "settings": settings,
        },
    }
    write_json(args.output / "train.json", record)
    first = next((m for m in metrics if m["split"] == "test"), metrics[0] if metrics else None)
    headline = {key: first[key] for key in ("part", "split", "metric")} if first else None
    write_json(
        args.output / "metrics.json",
        {
            "suite": settings["suite"],
            "run": settings["run"],
            "model": settings["run"],
            "state": "done",
            "headline": headline,
            "notes": notes,
            **record,
            "metrics": metrics,
        },
    )
    return 0


if __name__ == "__main__":
    run_command(main)
