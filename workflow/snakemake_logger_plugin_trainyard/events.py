"""Snakemake's events joined into one record a job.

JOB_ERROR has no wildcards, JOB_STARTED and JOB_FINISHED nothing but an id, a missing output only a sentence: all of it is
joined on the job's id here, and turned into notices that the screen and the summary act on.
"""

import logging
import re
import socket
import time
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_trainyard.ending import end_jobs
from snakemake_logger_plugin_trainyard.jobs import Job, Notice
from snakemake_logger_plugin_trainyard.messages import plain_message
from snakemake_logger_plugin_trainyard.plan import LAST, NOTHING
from snakemake_logger_plugin_trainyard.reason import at_home, exit_status, newest_log, reason_of


class Tracker:
    """All jobs of one call of Snakemake, kept up to date by `handle`."""

    def __init__(self, dryrun: bool = False, verbose: bool = False) -> None:
        self.dryrun = dryrun
        self.verbose = verbose
        self.jobs: dict[int, Job] = {}
        self.others: list[Job] = []  # jobs of the DAG that need not run
        self.stats: dict[str, int] = {}
        self.started = time.time()
        self.command = ""
        self.cores = 1
        self.elsewhere = False  # then `cores` is how many jobs are sent out at once, to machines whose cores are not known
        self.config: dict[str, Any] = {}
        self.home: str | None = None
        self.whole = False
        self.planned = False
        self.nothing = False
        self.stopping: float | None = None  # when the user asked to stop
        self.over = False
        self.broken = False  # an error that is no job's
        self.progress: tuple[int, int] = (0, 0)

    def handle(self, record: logging.LogRecord) -> list[Notice]:
        """What a record means, as notices; the jobs are brought up to date."""
        event: Any = getattr(record, "event", None)
        handler = {
            LogEvent.WORKFLOW_STARTED: self._workflow_started,
            LogEvent.RESOURCES_INFO: self._resources,
            LogEvent.RUN_INFO: self._run_info,
            LogEvent.JOB_INFO: self._job_info,
            LogEvent.JOB_STARTED: self._job_started,
            LogEvent.JOB_FINISHED: self._job_finished,
            LogEvent.JOB_ERROR: self._job_error,
            LogEvent.PROGRESS: self._progress,
        }.get(event)
        if handler is not None:
            notices = handler(record)
        elif event in (LogEvent.SHELLCMD, LogEvent.GROUP_INFO, LogEvent.GROUP_ERROR, LogEvent.RULEGRAPH, LogEvent.DEBUG_DAG):
            notices = []
        else:
            notices = self._said(record)
        for notice in notices:
            notice.at = record.created
        return notices

    @property
    def real(self) -> list[Job]:
        """The jobs that do something."""
        return [job for job in self.jobs.values() if not job.target]

    def total(self) -> int:
        """How many jobs this call is about; known from the plan, else from Snakemake's own count."""
        if self.planned or self.dryrun:
            return len(self.real)
        return max(len(self.real), self.stats.get("total", 0), self.progress[1])

    def counts(self) -> dict[str, int]:
        """Jobs by state, with `total` and `waiting`."""
        out = dict.fromkeys(("total", "done", "failed", "running", "waiting", "skipped", "interrupted"), 0)
        for job in self.real:
            out["waiting" if job.state == "retrying" else job.state] += 1
        out["total"] = self.total()
        out["waiting"] += out["total"] - len(self.real)
        return out

    def complete(self) -> bool:
        """Whether every job is done."""
        counts = self.counts()
        return counts["done"] == counts["total"]

    def by_state(self, *states: str) -> list[Job]:
        return [job for job in self.real if job.state in states]

    def close(self, at: float) -> None:
        """The call is over."""
        end_jobs(self.jobs, at, stopped=self.stopping is not None)

    # One method an event.

    def _workflow_started(self, record: Any) -> list[Notice]:
        self.started = record.created
        self.command = str(getattr(record, "cmd", ""))
        self.home = str(getattr(record, "basedir", "") or "") or None
        return []

    def _resources(self, record: Any) -> list[Notice]:
        cores, nodes = getattr(record, "cores", None), getattr(record, "nodes", None)
        if isinstance(found := cores or nodes, int) and found > 0:
            self.cores, self.elsewhere = found, not cores
        return []

    def _run_info(self, record: Any) -> list[Notice]:
        self.stats = dict(getattr(record, "stats", None) or {})
        self._take_plan(getattr(record, "trainyard_plan", None))
        return [Notice("plan")]

    def _take_plan(self, plan: dict[str, Any] | None) -> None:
        if not plan or self.planned:
            return
        self.config, self.home, self.whole = plan["config"], plan["home"], plan["whole"]
        for entry in plan["jobs"]:
            if entry["needrun"]:
                known = self.jobs.get(entry["jobid"])
                if known is None:
                    self.jobs[entry["jobid"]] = Job(**entry)
                else:
                    known.depends, known.target = entry["depends"], entry["target"]
            elif not entry["target"]:
                self.others.append(Job(**entry))
        self.planned = True

    def _job(self, jobid: int, rule: str = "") -> Job:
        job = self.jobs.get(jobid)
        if job is None:
            job = self.jobs[jobid] = Job(jobid, rule)
        return job

    def _job_info(self, record: Any) -> list[Notice]:
        job = self._job(record.jobid, record.rule_name)
        first = not job.why
        job.rule = record.rule_name
        job.wildcards = {str(k): str(v) for k, v in dict(getattr(record, "wildcards", None) or {}).items()} or job.wildcards
        job.why = str(getattr(record, "reason", "") or "")
        job.output = [str(f) for f in getattr(record, "output", None) or []] or job.output
        job.log = [str(f) for f in getattr(record, "log", None) or []] or job.log
        job.benchmark = getattr(record, "benchmark", None) or job.benchmark
        job.command = getattr(record, "shellcmd", None)
        job.threads = int(getattr(record, "threads", 1) or 1)
        job.target = not job.output and not job.command
        if getattr(record, "local", False) and not self.dryrun:
            job.machine = socket.gethostname()
        if self.dryrun or job.target or job.state != "running":
            return []
        # JOB_STARTED came before it, and named nothing.
        return [Notice("started", job)] if first or job.attempts > 1 else []

    def _job_started(self, record: Any) -> list[Notice]:
        for jobid in getattr(record, "jobs", None) or []:
            job = self._job(jobid)
            job.state, job.attempts = "running", job.attempts + 1
            job.started, job.finished, job.status, job.attempt_log, job.machine = record.created, None, None, None, None
        return []

    def _job_finished(self, record: Any) -> list[Notice]:
        job = self._job(record.job_id)
        job.state, job.finished, job.reason = "done", record.created, None
        job.attempt_log = newest_log(at_home(job.log[0]), job.started) if job.log else None
        return [] if job.target else [Notice("done", job)]

    def _job_error(self, record: Any) -> list[Notice]:
        job = self._job(record.jobid, record.rule_name)
        job.log = job.log or [str(f) for f in getattr(record, "log", None) or []]
        extra = [str(f) for f in getattr(record, "log", None) or [] if str(f) not in job.log]  # the executor's own logs
        return self._fail(job, record.created, extra, getattr(record, "rule_msg", None))

    def _fail(self, job: Job, at: float, extra: list[str], said: str | None, reason: str | None = None) -> list[Notice]:
        job.finished, job.log = at, [at_home(path) for path in job.log]
        job.attempt_log = newest_log(job.log[0], job.started) if job.log else (extra[0] if extra else None)
        logs = list(dict.fromkeys([path for path in (job.attempt_log, *job.log, *extra) if path]))
        job.reason = reason or reason_of(list(logs), job.status)
        if said and job.reason.startswith("no reason found"):
            job.reason = " ".join(str(said).split())
        if self.stopping is not None or job.status in (130, "SIGINT"):
            job.state = "interrupted"
            return []
        job.state = "failed"
        return [Notice("failed", job, level=logging.ERROR)]

    def _progress(self, record: Any) -> list[Notice]:
        self.progress = (getattr(record, "done", 0), getattr(record, "total", 0))
        return []

    def _said(self, record: logging.LogRecord) -> list[Notice]:
        text = str(record.msg or "")
        if (job := self.jobs.get(getattr(record, "ssh_jobid", -1))) is not None:
            job.machine = str(getattr(record, "ssh_host", ""))  # the ssh executor's word: before, the job waited for a host
        if match := re.match(r"Trying to restart job (\d+)", text):
            job = self._job(int(match[1]))
            job.state = "retrying"
            return [Notice("retry", job)]
        if text.startswith(NOTHING):
            self._take_plan(getattr(record, "trainyard_plan", None))
            self.nothing = True
            return [Notice("nothing")]
        if text.startswith("Terminating processes on user request") or text.startswith("Cancelling snakemake on user"):
            first, self.stopping = self.stopping is None, self.stopping or record.created
            return [Notice("stopping", text="stopping: running jobs are being ended; Ctrl+C again leaves without waiting")] if first else []
        if text.startswith("Will exit after finishing currently running jobs"):
            first, self.stopping = self.stopping is None, self.stopping or record.created
            running = len(self.by_state("running"))
            return [Notice("stopping", text=f"stopping: no new job starts, {running} running ones are awaited")] if first else []
        if text.startswith(LAST):  # arrives twice: at once, and through the queue
            first, self.over = not self.over, True
            return [Notice("over")] if first else []
        if record.levelno >= logging.ERROR:
            if "CalledProcessError" in text and self._status_of(text):
                return []
            if (match := re.search(r"Job (\d+)\s+completed successfully, but some output files are missing", text)) and int(
                match[1]
            ) in self.jobs:
                files = [line.split(" (missing", 1)[0] for line in text.splitlines() if "(missing" in line]
                reason = "its command ended well but did not write " + ", ".join(files)
                return self._fail(self.jobs[int(match[1])], record.created, [], None, reason)
            if "At least one job did not complete successfully" not in text:
                self.broken = True
        message = plain_message(record, self.verbose)
        return [Notice("message", text=message, level=record.levelno)] if message else []

    def _status_of(self, text: str) -> bool:
        """Keep the exit status for the job whose command the error names; JOB_ERROR follows and tells the rest."""
        matched = [job for job in self.jobs.values() if job.state == "running" and job.command and job.command.strip() in text]
        for job in matched:
            job.status = exit_status(text)
        return bool(matched)
