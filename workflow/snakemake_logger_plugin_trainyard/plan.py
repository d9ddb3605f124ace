"""The whole DAG, taken down once when Snakemake has built it: events alone never name a job that did not start.

Snakemake's records carry no DAG. A filter on its logger runs in the thread that logs, so it finds the Workflow that is
speaking on the stack and attaches plain data to the record. Where that fails (another Snakemake), the plan is missing and
only the names of jobs that never started are lost.
"""

import logging
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

LAST = "Exiting because a job execution failed"  # what Snakemake says last before it calls onerror
PATIENCE = 10.0  # seconds
NOTHING = "Nothing to be done"
SNAKEMAKE_LOGGER = "snakemake.logging"


class PlanFilter(logging.Filter):
    """Lets every record through; attaches `trainyard_plan` to the one that announces the jobs, or that there are none.

    Records reach the plugin through a queue. Before the handlers of the Snakefile run (`onerror` builds the report from the
    summary), everything queued must have arrived: `deliver` is given the last record before them in the thread that runs them.
    """

    def __init__(self, deliver: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self.deliver = deliver

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(LAST):
            try:
                _drain(logging.getLogger(SNAKEMAKE_LOGGER))
                self.deliver(record)
            except Exception as error:
                record.trainyard_plan_error = f"{type(error).__name__}: {error}"
        if getattr(record, "event", None) == LogEvent.RUN_INFO or str(record.msg).startswith(NOTHING):
            try:
                workflow = _speaking_workflow()
                if workflow is not None:
                    record.trainyard_plan = take_plan(workflow)
            except Exception as error:
                record.trainyard_plan_error = f"{type(error).__name__}: {error}"
        return True


def _drain(logger: logging.Logger) -> None:
    """Wait until the queue's listener has handled what was put in before; not for long."""
    end = time.monotonic() + PATIENCE
    for handler in logger.handlers:
        queue = getattr(handler, "queue", None)
        while getattr(queue, "unfinished_tasks", 0) and time.monotonic() < end:
            time.sleep(0.005)


def _speaking_workflow() -> Any:
    frame: FrameType | None = sys._getframe(1)
    for _ in range(12):
        if frame is None:
            break
        speaker = frame.f_locals.get("self")
        if type(speaker).__name__ == "Workflow" and hasattr(speaker, "dag"):
            return speaker
        frame = frame.f_back
    return None


def take_plan(workflow: Any) -> dict[str, Any]:
    """Every job of the DAG as plain data, the configuration, and whether the target is everything.

    {"jobs": [{jobid, rule, wildcards, output, log, benchmark, threads, target, depends, needrun}], "config", "home", "whole"}
    """
    dag = workflow.dag
    needed = set(dag.needrun_jobs(exclude_finished=False))
    jobs = []
    for job in dag.jobs:
        jobs.append(
            {
                "jobid": dag.jobid(job),
                "rule": job.rule.name,
                "wildcards": dict(job.wildcards_dict or {}),
                "output": [str(f) for f in job.output],
                "log": [str(f) for f in job.log],
                "benchmark": str(job.benchmark) if job.benchmark else None,
                "threads": _threads(job) if job in needed else 1,
                "target": not job.output and not job.shellcmd,
                "depends": [dag.jobid(other) for other in dag.dependencies.get(job, ())],
                "needrun": job in needed,
            }
        )
    targets = getattr(workflow.dag_settings, "targets", None)
    narrowed = targets or any(getattr(workflow.dag_settings, name, None) for name in ("until", "omit_from", "batch", "target_jobs"))
    return {"jobs": jobs, "config": dict(workflow.config), "home": str(workflow.basedir), "whole": not narrowed}


def _threads(job: Any) -> int:
    try:
        return int(job.threads)
    except Exception:  # a function of inputs that do not exist yet
        return 1
