"""What the workflow itself costs: a dry run of 10,000 jobs, and a suite through Slurm beside the same suite on the same cores.

workflow.py [dry] [slurm] [--suite kmidi] [--rounds 3]

`slurm` starts a Slurm of two virtual nodes, of one core each on a machine of two (root on Debian or Ubuntu with the packages that
`make test-machines` installs).
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from bench import REPOSITORY, Goal, Run, command, measure, report, scratch, verdict

SNAKEMAKE = [sys.executable, "-m", "snakemake"]
DEFAULT = ["--workflow-profile", REPOSITORY / "profiles/default"]
SLURM = ["--profile", REPOSITORY / "profiles/slurm"]
# Four models × 93 folds × 9 seeds, each trained, held against baselines and evaluated.
MANY = ["suites=aimedres", "only=als,alzheimers,parkinsons,cardiovascular", "folds=93", "seeds=9"]
CHAIN = """
rule all:
    input: expand("c/{i}.txt", i=range(3348))
rule a:
    output: "a/{i}.txt"
    shell: "touch {output}"
rule b:
    input: "a/{i}.txt"
    output: "b/{i}.txt"
    shell: "touch {output}"
rule c:
    input: "b/{i}.txt"
    output: "c/{i}.txt"
    shell: "touch {output}"
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def dry_run(folder: Path, rounds: int) -> bool:
    """10,000 jobs of the workflow, beside as many of rules that ask for nothing: Snakemake's own share."""
    (folder / "chain").mkdir()
    (folder / "chain/Snakefile").write_text(CHAIN)
    (folder / "many").mkdir()
    ours = [*SNAKEMAKE, "-s", REPOSITORY / "Snakefile", *SLURM, *DEFAULT, "-n", "-d", folder / "many", "--config", *MANY]
    bare = [*SNAKEMAKE, "-n", "--cores", "1", "-d", folder / "chain", "-s", folder / "chain/Snakefile"]
    cases = {name: command(argv, cwd=folder, env=ENVIRONMENT) for name, argv in {"bare rules": bare, "this workflow": ours}.items()}
    results = measure(cases, rounds)
    met = report("dry run of 10,000 jobs", results, baseline="bare rules")
    seconds = [run.seconds for run in results["this workflow"]]
    middle = statistics.median(seconds)
    return met & verdict("≤ 12 s", f"{middle:.3g} s", middle <= 12, f"{sum(s <= 12 for s in seconds)} of {rounds} rounds")


def through_slurm(folder: Path, suite: str, rounds: int) -> bool:
    """One suite from nothing to its report, here and through Slurm. The nodes have this machine's cores between them."""
    cores = os.cpu_count() or 1
    common = [*SNAKEMAKE, "-s", REPOSITORY / "Snakefile", *DEFAULT]
    target = ["--config", f"suites={suite}"]
    with two_nodes(max(1, cores // 2)):
        cases = {}
        for name, how in {"local": ["--cores", 2 * max(1, cores // 2)], "Slurm": SLURM}.items():
            cases[name] = _whole(folder / name, [*common, *how, "-d", folder / name, *target])
        results = measure(cases, rounds, prepare=lambda name: rmtree(folder / name, ignore_errors=True))
    return report(f"suite {suite} to its report", results, baseline="local", goals=[Goal("Slurm", at_most=2, than="local")])


def _whole(folder: Path, argv: list):
    run = command([str(a) for a in argv], cwd=REPOSITORY, env=ENVIRONMENT)

    def case() -> Run:
        folder.mkdir()
        measured = run()
        if not (folder / "results/report/index.html").exists():
            raise RuntimeError(f"no report in {folder}")
        return Run(measured.seconds)  # the work is done by others: its processor time is not this process'

    return case


@contextmanager
def two_nodes(cores: int) -> Iterator[None]:
    sys.path.insert(0, str(REPOSITORY / "tests/machines/slurm"))
    from slurm_cluster import running_cluster

    place = Path(mkdtemp(prefix="trainyard-slurm-"))
    try:
        with running_cluster(place, cores):
            yield
    finally:
        rmtree(place, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["dry", "slurm"], choices=["dry", "slurm"], metavar="dry|slurm")
    parser.add_argument("--suite", default="kmidi", help="suite that goes through Slurm (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    met = True
    with scratch() as folder:
        if "dry" in args.parts:
            met &= dry_run(folder, args.rounds)
        if "slurm" in args.parts:
            met &= through_slurm(folder, args.suite, args.rounds)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
