#!/usr/bin/env python
"""Plan which run goes to which machine, and say how far from the best the plan can be.

Machines are described in a YAML file (config/machines.yaml; every key: config/README.md). Hours come from earlier runs, else
from what the suite states, else from preflight's prediction. The plan is written for the workflow to follow (job priorities,
and the `host` of each run) and for the report; it never makes anything train again. Run again after some runs are done, or
when a machine is gone: only what is left is planned, with speeds corrected by what the runs took.

Examples:
  plan_machines.py
  plan_machines.py --config scale=full suites=kmidi --machines config/examples/machines_music.yaml
  plan_machines.py --all --output /tmp/plan.json --seconds 30
"""

import argparse
import math
from pathlib import Path

from trainyard.command import run_command

HOME = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=Path, help="the machines (default: the key `machines`, else config/machines.yaml)")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="overlays, as given to snakemake")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="settings, as given to snakemake")
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder: earlier runs, preflights (default: results)")
    parser.add_argument("--output", type=Path, help="the plan (default: plan.json in the results folder)")
    parser.add_argument("--all", action="store_true", help="plan every run, done or not")
    parser.add_argument("--seconds", type=float, default=5.0, help="time to plan (default: 5)")
    parser.add_argument("--last", type=Path, help="the plan before, for its speeds (default: the output, if it is there)")
    args = parser.parse_args()
    if not 0 < args.seconds < math.inf:
        raise ValueError("--seconds must be above 0")
    if args.last:
        args.last.stat()  # a wrong name would be planned without its speeds

    from trainyard.config.command_line import read_config
    from trainyard.config.machines import load_machines
    from trainyard.config.worker import machines_file
    from trainyard.dag.jobs import Jobs
    from trainyard.data.files import write_json
    from trainyard.plan.make import make_plan
    from trainyard.plan.words import following, lines

    output = args.output or args.results / "plan.json"
    # The plan is of everybody's runs, whoever makes it.
    config = {k: v for k, v in read_config(HOME, args.configfile, args.config).items() if k != "worker"}
    jobs = Jobs(config, HOME)
    machines = load_machines(args.machines or machines_file(jobs.config.settings, HOME))
    plan = make_plan(jobs, machines, args.results, last=args.last or output, everything=args.all, seconds=args.seconds)
    write_json(output, plan)
    for line in lines(plan):
        print(line)
    print(f"\n{following(plan, output)}")
    return 0


if __name__ == "__main__":
    run_command(main)
