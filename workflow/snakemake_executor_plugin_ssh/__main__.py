"""Commands beside a run: prepare a host, end jobs that are still running."""

import argparse
import sys
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError

from .cancel import cancel
from .hosts import Host
from .prepare import prepare
from .settings import ExecutorSettings


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("prepare", help="make or complete the environment of jobs on a host, and check it")
    made.add_argument("host", nargs="+", help="name in the OpenSSH configuration")
    made.add_argument("--ssh-config", type=Path, help="OpenSSH configuration in place of ~/.ssh/config")
    made.add_argument("--python", default=ExecutorSettings.python, help="Python of the environment on the host (default: %(default)s)")
    made.add_argument("--workdir", default=ExecutorSettings.workdir, help="working folder on the host (default: %(default)s)")
    made.add_argument("--requirements", type=Path, help="lock file to install (default: Snakemake and its plugins as they are here)")
    ended = commands.add_parser("cancel", help="end the jobs that runs of this folder have left on hosts")
    ended.add_argument("--folder", type=Path, default=Path(), help="working directory of the runs (default: this one)")
    ended.add_argument("--revoked-only", action="store_true", help="only those that a run has cancelled or given up")
    ended.add_argument("--hours", type=float, default=24, help="how long to try a host that cannot be reached (default: %(default)s)")
    ended.add_argument("--after", type=int, help="first wait until this process has ended")
    args = parser.parse_args()
    try:
        if args.command == "prepare":
            for name in args.host:
                print(prepare(Host(name, python=args.python, workdir=args.workdir), args.ssh_config, args.requirements))
        else:
            cancel(args.folder, not args.revoked_only, args.hours, args.after)
    except WorkflowError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
