"""`trainyard status | logs | doctor`: looks, never changes anything."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

EPILOG = """Everything else is done by `snakemake` itself: `snakemake` runs what is missing, `snakemake -n` says what would run and why.

exit codes:
  status  0 all well, 1 something failed, was interrupted or died, 2 no results here
  logs    0 something shown, 1 nothing fits
  doctor  0 nothing wrong (or the symptom is known), 1 something wrong (or it is not known)
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainyard", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="status | logs | doctor")

    status = commands.add_parser("status", help="what is done, running and failed", description="What is done, running and failed.")
    status.add_argument("--results", type=Path, default=Path("results"), help="folder of the results (default: results)")
    status.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder of the checkpoints (default: checkpoints)")
    status.add_argument("--json", action="store_true", help="for tools")

    logs = commands.add_parser("logs", help="logs of jobs, newest attempt first", description="Logs of jobs: of each the newest attempt.")
    logs.add_argument("pattern", nargs="?", help="part of rule/suite/run, or a pattern such as 'train_model/kmidi/*'; without it the list")
    logs.add_argument("--follow", "-f", action="store_true", help="go on as they grow, until Ctrl+C")
    logs.add_argument("--errors", "-e", action="store_true", help="only the line that matters, of each job that failed")
    logs.add_argument("--lines", "-n", type=int, default=20, help="last lines of each log (default: 20; 0: all)")
    logs.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the logs (default: logs)")
    logs.add_argument("--results", type=Path, default=Path("results"), help="folder of the results (default: results)")

    doctor = commands.add_parser(
        "doctor",
        help="this machine and set-up; or what an error means",
        description="This machine and set-up; or what an error means and what to do.",
    )
    doctor.add_argument("symptom", nargs="*", help="text of an error, as it was shown")
    doctor.add_argument("--results", type=Path, default=Path("results"), help="folder of the results (default: results)")
    doctor.add_argument("--data", type=Path, action="append", help="a data folder to look at (default: data); may be given again")
    doctor.add_argument("--list", action="store_true", help="every symptom that is known")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command `trainyard`; returns its exit code."""
    args = build_parser().parse_args(argv)
    try:
        if args.command == "status":
            from trainyard.cli.status import run_status

            return run_status(args.results, args.checkpoints, args.json)
        if args.command == "logs":
            from trainyard.cli.logs import run_logs

            return run_logs(args.logs, args.results, args.pattern, args.follow, args.errors, args.lines)
        from trainyard.cli.doctor import run_doctor

        return run_doctor(" ".join(args.symptom), args.results, args.data or [Path("data")], args.list)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # `trainyard logs | head`
        return 0
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
