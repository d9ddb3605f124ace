#!/usr/bin/env python
"""Build the comparison report: one HTML file that opens offline, and on request a status page in Markdown.

Reads what the results folder holds (comparison, metrics, histories, predictions, splits, refused files, preflight,
merges, summary.json); whatever is absent is left out, whatever is broken is listed.

Example:
  python workflow/scripts/build_report.py --results results --output results/report/index.html --status results/report/STATUS.md

Ends with 0 when written, 1 on an error. Failed runs are shown, they are no error.
"""

import argparse

from trainyard.command import attempt_log, run_command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", required=True, help="folder of the results")
    parser.add_argument("--checkpoints", help="folder of the checkpoints: shows how far running trainings are")
    parser.add_argument("--output", required=True, help="the HTML file")
    parser.add_argument("--status", help="also write this Markdown file: date, summary, warnings, table")
    parser.add_argument("--suites", nargs="*", default=[], help="only these suites (default: all in the folder)")
    parser.add_argument("--partial", action="store_true", help="say on the page that the workflow did not end well")
    parser.add_argument("--log", help="log file; one of its own is kept for every attempt beside it")
    args = parser.parse_args()
    attempt_log(args.log)

    from pathlib import Path

    from trainyard.data.files import write_text
    from trainyard.report.collect import collect
    from trainyard.report.page import render
    from trainyard.report.status_page import status_page
    from trainyard.report.words import verdict

    results = Path(args.results)
    if not results.is_dir():
        raise ValueError(f"--results: no such folder: {results}")
    report = collect(results, Path(args.checkpoints) if args.checkpoints else None, args.partial, args.suites)
    page = render(report)
    write_text(args.output, page)
    if args.status:
        write_text(args.status, status_page(report))
    for problem in report.problems:
        print(f"warning: could not read {problem}")
    print(f"{args.output}: {len(page.encode()) / 1e3:.0f} kB. {verdict(report)}")
    return 0


if __name__ == "__main__":
    run_command(main)
