"""`trainyard status | logs | preflight | recommend | doctor`: looks, never changes anything."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from trainyard.command import at_least

EPILOG = """Everything else is done by `snakemake` itself: `snakemake` runs what is missing, `snakemake -n` says what would run and why.

exit codes:
  status  0 all well, 1 something failed, was interrupted or died, 2 no results here
  logs    0 something shown, 1 nothing fits
  preflight  0 no check failed, 1 one did, 2 no preflight here
  doctor  0 nothing wrong (or the symptom is known), 1 something wrong (or it is not known)
"""


def above_zero(text: str) -> float:
    """The type of an argument that is a number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainyard", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="status | logs | preflight | recommend | doctor")

    status = commands.add_parser("status", help="what is done, running and failed", description="What is done, running and failed.")
    status.add_argument("--results", type=Path, default=Path("results"), help="folder of the results (default: results)")
    status.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder of the checkpoints (default: checkpoints)")
    status.add_argument("--json", action="store_true", help="for tools")

    logs = commands.add_parser("logs", help="logs of jobs, newest attempt first", description="Logs of jobs: of each the newest attempt.")
    logs.add_argument("pattern", nargs="?", help="part of rule/suite/run, or a pattern such as 'train_model/kmidi/*'; without it the list")
    logs.add_argument("--follow", "-f", action="store_true", help="go on as they grow, until Ctrl+C")
    logs.add_argument("--errors", "-e", action="store_true", help="only the line that matters, of each job that failed")
    logs.add_argument("--lines", "-n", type=at_least(0), default=20, help="last lines of each log (default: 20; 0: all)")
    logs.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the logs (default: logs)")
    logs.add_argument("--results", type=Path, default=Path("results"), help="folder of the results (default: results)")

    preflight = commands.add_parser(
        "preflight",
        help="what the checks before training found",
        description="What the checks before training found: a line a model, and what is wrong. `snakemake preflight` makes them all.",
    )
    preflight.add_argument("pattern", nargs="?", help="suite, model or suite/model: every check of these, not only what is wrong")
    preflight.add_argument("--results", type=Path, default=Path("results"), help="folder of the results (default: results)")

    advice = commands.add_parser(
        "recommend",
        help="how many runs at once",
        description="How many runs a machine takes at once: this one, or one that is described.",
    )
    advice.add_argument("--cores", type=above_zero, help="cores (default: those of this machine that may be used)")
    advice.add_argument("--memory-gb", type=above_zero, help="memory, GB (default: this machine's)")
    advice.add_argument("--gpus", type=at_least(0), help="GPUs (default: this machine's)")
    advice.add_argument("--gpu-slots", type=at_least(1), default=1, help="runs that one GPU holds (default %(default)s)")
    advice.add_argument("--per-run", type=above_zero, help="memory of a run, GB (default: 8, the rule for runs of which nothing is known)")
    advice.add_argument("--threads", type=at_least(1), default=1, help="threads of a run (default %(default)s)")
    advice.add_argument("--flags", action="store_true", help="as flags for snakemake, which asks each job for its memory itself")

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
        if args.command == "preflight":
            from trainyard.cli.preflight import run_preflight

            return run_preflight(args.results, args.pattern)
        if args.command == "recommend":
            from trainyard.cli.recommend import run_recommend

            return run_recommend(args.cores, args.memory_gb, args.gpus, args.per_run, args.threads, args.gpu_slots, args.flags)
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
