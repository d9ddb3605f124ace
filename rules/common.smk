# What the rules share: the resolved configuration, and resources as named functions.
import subprocess

from snakemake.exceptions import WorkflowError

from trainyard import dag
from trainyard.config import ConfigError

try:
    JOBS = dag.Jobs(config, HOME)
except ConfigError as mistake:
    # "from None": a mistake in the configuration is told in one line, not in a traceback.
    raise WorkflowError(str(mistake)) from None

FILES = dag.Files(JOBS)
PARAMS = dag.Params(JOBS, FILES)
dag.set_shell_environment(HOME)


wildcard_constraints:
    suite=dag.one_of(JOBS.config.suites),
    dataset=dag.one_of(JOBS.datasets),
    model=dag.one_of(JOBS.models),
    run=dag.one_of(JOBS.run_names),
    strategy="average|weighted|best",


def memory(wildcards, attempt):
    """MB of a training; half as much again with each attempt."""
    return int(JOBS.model_of(wildcards).mem_mb * (1 + 0.5 * (attempt - 1)))


def minutes(wildcards, attempt):
    return JOBS.model_of(wildcards).runtime * attempt


def gpus(wildcards):
    return JOBS.model_of(wildcards).gpu


def run_threads(wildcards):
    return JOBS.model_of(wildcards).threads


def copy_threads(wildcards):
    """Decoders of a local copy: one for the small generated data, all cores for a person's own."""
    own = JOBS.dataset(wildcards.suite, wildcards.dataset).root
    return workflow.cores or 1 if own else 1


def print_comparisons():
    """The table of every suite: what each model scored, beside its baselines, and how sure that is."""
    for suite in JOBS.active_suites():
        table = Path("logs", "compare_models", f"{suite}.log")
        if table.exists():
            print(f"\n{suite}\n{table.read_text()}", end="", flush=True)


def partial_report():
    """After a failure: comparison and report from what there is, failed rows shown."""
    log = Path("logs/partial_report.log")
    log.parent.mkdir(exist_ok=True)
    with open(log, "w") as file:
        for command in PARAMS.partial_commands():
            subprocess.run(
                [sys.executable, *command], check=False, stdout=file, stderr=file
            )
    print(log.read_text(), end="", flush=True)
