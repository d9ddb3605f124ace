"""Which job this is, in this run and the next, what exactly it runs, and what it asks for."""

import hashlib
import json
import re
import socket
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from .admission import Need


def project_name(folder: Path) -> str:
    """Name of the hosts' folder for the runs of this one: no other folder of any machine has it."""
    where = f"{socket.gethostname()}:{folder}"
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', folder.name)[:40]}-{hashlib.sha256(where.encode()).hexdigest()[:10]}"


def job_label(job: JobExecutorInterface) -> str:
    """The job for people: number, rule, and what its wildcards stand for."""
    words = [job.name, *map(str, getattr(job, "wildcards", ()) or ())]
    return f"job {job.jobid} ({' '.join(words)})"


def job_key(job: JobExecutorInterface) -> str:
    """The same for the same job in every run."""
    return hashlib.sha256("\0".join(sorted(map(str, job.get_target_spec()))).encode()).hexdigest()[:24]


def job_spec(job: JobExecutorInterface, version: str | None, config: Any) -> str:
    """What exactly is run, with sources of this version and this configuration: an attempt with another spec is no attempt at this job."""
    content = [
        {"rule": part.rule.name, "input": list(map(str, part.input)), "output": list(map(str, part.output)), "params": repr(part.params)}
        for part in (list(job) if job.is_group() else [job])
    ]
    return hashlib.sha256(json.dumps([content, version, repr(config)], sort_keys=True).encode()).hexdigest()[:24]


def job_need(job: JobExecutorInterface) -> Need:
    """Cores, memory, GPUs and host."""

    def number(name: str) -> int:
        value = job.resources.get(name, 0)
        return value if isinstance(value, int) else 0

    host = job.resources.get("host")
    cores = max(1, number("_cores") or job.threads)
    return Need(cores, number("mem_mb"), number("gpu"), host if isinstance(host, str) and host else None)
