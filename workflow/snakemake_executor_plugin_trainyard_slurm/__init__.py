"""Jobs to Slurm as the slurm executor plugin sends them, with four things that trainings need (`executor: trainyard-slurm`).

- Light rules stay on the submitting host.
- The end of a job is noticed within seconds however rarely Slurm is asked: each job leaves a file behind.
- Cancelled jobs are asked to save first, and none is left behind, however often Ctrl+C is pressed (cancel.py).
- Whether a cluster keeps accounts is found out, and so is what an earlier call left in the queue.
"""

import asyncio
import atexit
import os
import shlex
import signal
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Optional

import snakemake_executor_plugin_slurm as slurm
from snakemake_executor_plugin_slurm_jobstep import get_cpu_setting, get_gpu_setting, get_node_setting
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_trainyard_slurm.accounts import keeps_accounts
from snakemake_executor_plugin_trainyard_slurm.cancel import start_canceller
from snakemake_executor_plugin_trainyard_slurm.ends import Ends, leftovers

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = slurm.common_settings
LOOK = 0.5  # seconds between two looks at the folder of ends
SETTLE = 1.0  # seconds that Slurm takes to know of an end
RECORDS = Path(".snakemake/trainyard-slurm")


# Snakemake makes argparse options of the annotations and knows Optional, not `… | None`.
@dataclass
class ExecutorSettings(slurm.ExecutorSettings):
    """Options of the slurm plugin under this name (`--trainyard-slurm-…`), and some more."""

    status_command: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "sacct or squeue; default: sacct where the cluster keeps accounts, else squeue"}
    )
    light_rules: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "rules that stay on the submitting host, in one text"}
    )
    local_dir: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "folder on a node's own disk for copies of packs, such as /scratch/$USER; default: $SLURM_TMPDIR where it is set"
        },
    )
    warning: int = field(
        default=120, metadata={"help": "seconds before its time is up at which a job is told to save and leave (SIGTERM)", "type": int}
    )
    grace: int = field(
        default=90, metadata={"help": "seconds that cancelled trainings have to save in, before Slurm ends them", "type": int}
    )


class Executor(slurm.Executor):
    """The slurm executor; what is not here is the plugin's own."""

    ends: Ends | None = None  # none yet when the thread that waits for jobs starts
    canceller = None

    def __post_init__(self, test_mode: bool = False) -> None:
        super().__post_init__(test_mode)
        settings = self.workflow.executor_settings
        self._keep_here((settings.light_rules or "").replace(",", " ").split())
        if settings.local_dir:
            os.environ["TRAINYARD_LOCAL_DISK"] = settings.local_dir
        # As --signal of sbatch, which slurm_extra may still set: an option of the job would have to be worked out for each.
        os.environ.setdefault("SBATCH_SIGNAL", f"TERM@{settings.warning}")
        self._end_leftovers()
        self.ends = Ends(RECORDS.absolute() / self.run_uuid)
        atexit.register(self._leave_none_behind)
        self._start_canceller_at_ctrl_c()

    # ---- what stays here, and how it is asked ------------------------------------------------------------------
    def _keep_here(self, names: list[str]) -> None:
        known = {rule.name for rule in self.workflow.rules}
        if unknown := sorted(set(names) - known):
            raise WorkflowError(f"light-rules of the slurm profile: no such rule: {', '.join(unknown)}")
        self.workflow.localrules(*names)

    def get_status_command(self) -> str:
        """The user's choice, else what this cluster can answer."""
        settings = self.workflow.executor_settings
        if settings.status_command is None:
            settings.status_command = "sacct" if self._accounts else "squeue"
        return settings.status_command

    @cached_property
    def _accounts(self) -> bool:
        return keeps_accounts()

    def get_account_arg(self, job):
        """As the plugin says; where no accounts are kept there is none to guess, and every job would be told so."""
        if job.resources.get("slurm_account") or self._accounts:
            yield from super().get_account_arg(job)
        else:
            yield ""

    # ---- a job and its end -------------------------------------------------------------------------------------
    def format_job_exec(self, job) -> str:
        """The job's command as a step of its own, which says by a file that it ended. It will stand in double quotes: no $ in it."""
        command = super().format_job_exec(job)
        if self.ends is None or self.array_jobs:  # an array's command gets arguments appended
            return command
        if job.resources.get("mpi") is None:
            flags = (get_cpu_setting(job, bool(job.resources.get("gpu"))), get_gpu_setting(job), get_node_setting(job))
            command = f"srun -n1 --cpu-bind=q {' '.join(flags)} sh -c {shlex.quote(command)}"
        done, failed = (shlex.quote(str(path)) for path in self.ends.files(job))
        return f"{command} && touch {done} || {{ touch {failed}; false; }}"

    def additional_general_args(self) -> str:
        """The step runs the job; the plugin's jobstep executor would start Snakemake twice, and hide the job's SLURM_ variables."""
        return super().additional_general_args() if self.array_jobs else "--executor local"

    def get_python_executable(self) -> str:
        """Snakemake in the place of the shell: a step is over, and the rest of it killed, when its first process is."""
        return super().get_python_executable() if self.array_jobs else f"exec {super().get_python_executable()}"

    async def sleep(self) -> None:
        """Until the plugin's next look is due, or earlier: when a job said that it ended, or nobody waits any more."""
        due = time.monotonic() + (self.next_seconds_between_status_checks or 0)
        while self.wait and time.monotonic() < due:
            await asyncio.sleep(LOOK)
            if self.ends is not None and self.ends.fresh(self._active()):
                await asyncio.sleep(SETTLE)
                return

    async def check_active_jobs(self, active_jobs):
        """The plugin's look. A job that said long ago how it ended, and that Slurm has forgotten or cannot let go of, ended so."""
        async for info in super().check_active_jobs(active_jobs):
            ended = self.ends.stale(info.job) if self.ends is not None else None
            if ended is None:
                yield info
            elif ended:
                self.report_job_success(info)
            else:
                self.report_job_error(info, msg=f"SLURM-job '{info.external_jobid}' failed; Slurm no longer says how. ")

    def _active(self) -> list:
        with self.lock:
            return [info.job for info in self.active_jobs]

    # ---- the end of all ----------------------------------------------------------------------------------------
    def cancel_jobs(self, active_jobs: list) -> None:
        """Running jobs save and leave, waiting ones never start. Returns when none is left, or at the next Ctrl+C."""
        self._start_canceller()
        self.logger.info(
            f"Slurm jobs of this call: those that wait are taken out of the queue, those that run have "
            f"{self.workflow.executor_settings.grace} s to save."
        )
        try:
            self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
            self.canceller.no_more()
            self.canceller.wait()
        except KeyboardInterrupt:
            self.logger.warning(f"Not waiting for them: a process of its own (pid {self.canceller.pid}) goes on until none is left.")

    def shutdown(self) -> None:
        super().shutdown()
        if self.ends is not None and self.canceller is None and not self._active():
            self.ends.remove()
            self.ends = None

    def _start_canceller(self) -> None:
        if self.canceller is None:
            self.canceller = start_canceller(self.run_uuid, self.workflow.executor_settings.grace, RECORDS.absolute() / self.run_uuid)

    def _start_canceller_at_ctrl_c(self) -> None:
        """At the first, before anything else: the second may end this process before Snakemake has come to cancel its jobs."""
        before = signal.getsignal(signal.SIGINT)
        if not callable(before) or threading.current_thread() is not threading.main_thread():
            return

        def on_interrupt(number, frame) -> None:
            if self.ends is not None:
                self._start_canceller()
            before(number, frame)

        signal.signal(signal.SIGINT, on_interrupt)

    def _leave_none_behind(self) -> None:
        """However Python ends with jobs in the queue. A controller that is killed gets no such chance: its jobs go on to their end."""
        if self.ends is not None:
            self._start_canceller()

    def _end_leftovers(self) -> None:
        """Jobs of a controller that was killed would train the same runs as this call: they save and leave first."""
        for record in leftovers(RECORDS):
            found = start_canceller(record.name, self.workflow.executor_settings.grace, record, say=self.logger.warning)
            found.no_more()
            found.wait()
