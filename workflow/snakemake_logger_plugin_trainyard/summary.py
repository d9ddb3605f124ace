"""results/summary.json: every job's last known state, written as events come, so that no handler is needed for it."""

import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_logger_plugin_trainyard.events import Tracker
from snakemake_logger_plugin_trainyard.jobs import Job

TEXTS = ("suite", "run", "reason", "log", "machine")  # of a job: text or null
SHARE = 0.1  # of the time at most is spent on writing it; a failure is written at once


def iso(moment: float | None) -> str | None:
    """UTC, to the second: 2026-01-31T12:00:00+00:00."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds") if moment is not None else None


class Summary:
    """The file, and what it held before this call."""

    def __init__(self, path: Path) -> None:
        from trainyard.data.files import read_json

        self.path = path
        self.next_write = 0.0
        self.dirty = False
        self.problem: str | None = None
        self.earlier: dict[tuple, dict[str, Any]] = {}
        try:
            for entry in filter(is_entry, read_json(path)["jobs"]):
                if entry.get("state") == "running":  # its writer was killed: nobody could say how it ended
                    entry = {**entry, "state": "interrupted", "reason": entry.get("reason") or "Snakemake ended before it did"}
                self.earlier[(entry["rule"], entry["suite"], entry["run"])] = entry
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none yet, or not ours: begin anew

    def changed(self, tracker: Tracker, now: bool = False) -> None:
        """Something changed: write it, at once or as soon as writing does not take more than its share."""
        self.dirty = True
        self.flush(tracker, now)

    def flush(self, tracker: Tracker, now: bool = False) -> None:
        """Write what is unwritten. A folder that cannot be written is no reason to stop a training: it is said once at the end."""
        from trainyard.data.files import write_json

        if not self.dirty or (not now and time.monotonic() < self.next_write):
            return
        begun = time.monotonic()
        try:
            write_json(self.path, self.content(tracker))
            self.problem = None
        except OSError as error:
            self.problem = f"cannot write {self.path}: {error.strerror}"
        ended = time.monotonic()
        self.dirty, self.next_write = False, ended + (ended - begun) / SHARE

    def content(self, tracker: Tracker, state: str | None = None) -> dict[str, Any]:
        """The whole file."""
        state = state or self.state(tracker)
        jobs = {job.key: self._entry(job) for job in tracker.real if job.state != "waiting" and job.rule}
        for job in tracker.others:
            before = self.earlier.get(job.key)
            jobs.setdefault(job.key, before if before and before.get("state") == "done" else self._settled(job))
        waiting = {job.key for job in tracker.real if job.state == "waiting"}
        for key, entry in self.earlier.items():
            # A job that still waits keeps what was known of it; one that left the configuration is forgotten.
            if key not in jobs and (key in waiting or not tracker.whole):
                jobs[key] = entry
        over = state != "running"
        return {
            "started": iso(tracker.started),
            "finished": iso(time.time()) if over else None,
            "state": state,
            "command": tracker.command,
            "counts": tracker.counts(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_started": _own_start(),
            "jobs": sorted(jobs.values(), key=lambda e: (e["suite"] or "~", e["run"] or "", e["rule"])),
        }

    def state(self, tracker: Tracker) -> str:
        """running, done, failed or interrupted."""
        counts = tracker.counts()
        if tracker.nothing:
            return "done"
        if counts["running"] or counts["waiting"]:
            return "running"
        if counts["failed"]:
            return "failed"
        if counts["interrupted"] or counts["skipped"]:
            return "interrupted" if tracker.stopping or not tracker.broken else "failed"
        return "failed" if tracker.broken else "done"

    def _entry(self, job: Job) -> dict[str, Any]:
        seconds = job.seconds if job.state in ("done", "failed", "interrupted") else None
        return {
            "rule": job.rule,
            "suite": job.suite,
            "run": job.run,
            "state": "running" if job.state == "retrying" else job.state,
            "attempts": job.attempts,
            "seconds": round(seconds, 2) if seconds is not None else None,
            "machine": job.machine,
            "reason": job.reason,
            "log": job.attempt_log or (job.log[0] if job.log else None),
            "started": iso(job.started),
            "finished": iso(job.finished),
        }

    def _settled(self, job: Job) -> dict[str, Any]:
        """A job that is done without a record of it: its outputs were there before."""
        return {**self._entry(job), "state": "done", "attempts": 0, "log": job.log[0] if job.log else None}


def is_entry(entry: Any) -> bool:
    """Whether a job of a summary has the form that is written here."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("rule", "state")):
        return False
    return {"suite", "run"} <= entry.keys() and all(isinstance(entry.get(key), str | None) for key in TEXTS)


def _own_start() -> float | None:
    """When this process started, in epoch seconds: a pid alone may belong to another by the time somebody looks."""
    try:
        import psutil

        return psutil.Process().create_time()
    except Exception:
        return None
