# What the rules share: the resolved configuration, and resources as named functions.
import atexit
import gc
import subprocess
import time

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from trainyard import dag
from trainyard.config import ConfigError
from trainyard.host import folder_lock, interrupts
from trainyard.machines.attach import attach, told
from trainyard.machines.object_store import StoreError
from trainyard.train.found_script import may_use_gpu

BEGAN = time.time()

# Thousands of jobs are millions of objects that stay: searching them for garbage again and again takes a tenth of a dry run, and
# taking them apart one by one at the end a fifth.
gc.set_threshold(300_000, 50, 100)
atexit.register(gc.freeze)

try:
    JOBS = dag.Jobs(config, HOME, told(workflow))
except ConfigError as mistake:
    # "from None": a mistake in the configuration is told in one line, not in a traceback.
    raise WorkflowError(str(mistake)) from None

FILES = dag.state_parameters(dag.Files(JOBS))
PARAMS = dag.state_parameters(dag.Params(JOBS, FILES))
FOLLOW = dag.state_parameters(dag.Follow(JOBS))
dag.set_shell_environment(HOME, JOBS.config.settings)
folder_lock.drop_dead_locks(lambda line: print(line, file=sys.stderr, flush=True))
interrupts.at_once_at_the_second(folder_lock.drop_own_locks)
try:
    STORAGE = attach(workflow, HOME, JOBS.config, logger.warning)
except (StoreError, ConfigError) as mistake:
    raise WorkflowError(str(mistake)) from None
if STORAGE:
    FOLLOW.reachable = STORAGE.hosts
    FILES.sent, FILES.stored = STORAGE.sent, True


wildcard_constraints:
    suite=dag.one_of(JOBS.config.suites),
    dataset=dag.one_of(JOBS.datasets),
    model=dag.one_of(JOBS.models),
    run=dag.one_of(JOBS.run_names),
    merge=dag.one_of(JOBS.merge_names),
    strategy=dag.one_of(dag.MERGE_STRATEGIES),


@dag.asked
def memory(wildcards, attempt):
    """MB of a training; half as much again with each attempt, up to the fourth: later ones only go on where one was stopped."""
    return int(JOBS.most(wildcards, "mem_mb") * (1 + 0.5 * min(attempt - 1, 3)))


@dag.asked
def memory_cap(wildcards, attempt):
    """MB a training on a CPU is held to; 0: to none."""
    held = JOBS.model_of(wildcards).cap_memory
    return memory(wildcards, attempt) if held else 0


@dag.asked
def minutes(wildcards, attempt):
    return JOBS.most(wildcards, "runtime") * attempt


@dag.asked
def longer_minutes(wildcards, attempt):
    """Of a promoted run: as if it had to start from the beginning."""
    promote = JOBS.promote(wildcards.suite)
    return minutes(wildcards, attempt) * promote.to_epochs // promote.from_epochs


@dag.asked
def gpus(wildcards):
    """GPUs that the scheduler counts. On this machine a run takes the GPU that is there, asked for or not; which machine it is, is not
    known before the jobs are."""
    return max(gpus_asked(wildcards), dag.gpus_taken(workflow))


@dag.asked
def script_gpus(wildcards):
    return dag.gpus_taken(workflow) * may_use_gpu(
        Path(FILES.script(wildcards)).read_bytes()
    )


@dag.asked
def gpus_asked(wildcards):
    return JOBS.most(wildcards, "gpu")


@dag.asked
def run_threads(wildcards):
    return JOBS.most(wildcards, "threads")


@dag.asked
def script_threads(wildcards):
    return JOBS.discover(wildcards.suite).threads


@dag.asked
def script_memory(wildcards, attempt):
    return int(JOBS.discover(wildcards.suite).mem_mb * (1 + 0.5 * (attempt - 1)))


@dag.asked
def script_minutes(wildcards):
    """A little more than the script gets, so that it is stopped by its own limit and says so."""
    return int(JOBS.discover(wildcards.suite).minutes) + 2


@dag.asked
def copy_threads(wildcards):
    """Decoders of a local copy: one for the small generated data, all cores for a person's own."""
    own = JOBS.dataset(wildcards.suite, wildcards.dataset).root
    return workflow.cores or 1 if own else 1


def print_comparisons():
    """The table of every suite that was compared: what each model scored, beside its baselines, and how sure that is."""
    for table in dag.fresh_comparisons(JOBS.active_suites(), BEGAN):
        print(table, end="", flush=True)
    if JOBS.rest():
        print(f"\n{JOBS.rest()}", flush=True)


def partial_report():
    """After a failure: comparison and report from what there is, failed rows shown."""
    log = Path("logs/partial_report.log")
    log.parent.mkdir(exist_ok=True)
    with open(log, "w") as file:

        def run(command):
            subprocess.run(
                [sys.executable, *command], check=False, stdout=file, stderr=file
            )

        if STORAGE:
            run(PARAMS.fetch_command(STORAGE.prefix))
        for command in PARAMS.partial_commands():
            run(command)
    dag.mark_partial(workflow, PARAMS.partial_outputs())
    print(log.read_text(), end="", flush=True)
