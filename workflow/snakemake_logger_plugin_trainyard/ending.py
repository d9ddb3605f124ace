"""The end of a call of Snakemake: what becomes of the jobs that were not done, and which job was the cause."""

from snakemake_logger_plugin_trainyard.jobs import Job


def end_jobs(jobs: dict[int, Job], at: float, stopped: bool) -> None:
    """What ran was interrupted, by the user if `stopped`; what waited was skipped, and because of what. `at` in epoch seconds."""
    real = [job for job in jobs.values() if not job.target]
    for job in real:
        if job.state in ("running", "retrying"):
            job.state, job.finished = "interrupted", at
            job.reason = job.reason or ("stopped by the user" if stopped else "Snakemake ended before it did")
    blame: dict[int, Job | None] = {}
    for job in real:
        if job.state == "waiting":
            cause = _cause(jobs, job.jobid, blame)
            job.state = "skipped"
            if cause is not None:
                job.reason = f"needs {cause.label}, which {'failed' if cause.state == 'failed' else 'was interrupted'}"
            else:
                job.reason = "not reached before the end"


def _cause(jobs: dict[int, Job], jobid: int, known: dict[int, Job | None]) -> Job | None:
    """The failed job that a job waits for, however far up."""
    stack, order = [jobid], []
    while stack:  # no recursion: a DAG may be deep
        current = stack.pop()
        if current in known:
            continue
        known[current] = None
        order.append(current)
        stack += [d for d in jobs[current].depends if d in jobs]
    changed = True
    while changed:
        changed = False
        for current in reversed(order):
            if known[current] is None:
                for other in jobs[current].depends:
                    job = jobs.get(other)
                    cause = job if job and job.state in ("failed", "interrupted") else known.get(other)
                    if cause is not None:
                        known[current] = cause
                        changed = True
                        break
    return known[jobid]
