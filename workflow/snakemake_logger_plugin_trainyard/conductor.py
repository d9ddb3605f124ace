"""Binds it together: records in, screen and summary out. Records come in the logger's own thread, ticks in another."""

import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_trainyard.dryrun import dryrun_lines
from snakemake_logger_plugin_trainyard.events import Tracker
from snakemake_logger_plugin_trainyard.forecast import Forecast, Outlook
from snakemake_logger_plugin_trainyard.heartbeat import Heartbeat, read_heartbeat
from snakemake_logger_plugin_trainyard.jobs import Job, Notice
from snakemake_logger_plugin_trainyard.plan import SNAKEMAKE_LOGGER, PlanFilter
from snakemake_logger_plugin_trainyard.screen import Screen
from snakemake_logger_plugin_trainyard.sources import planned_runs
from snakemake_logger_plugin_trainyard.summary import Summary
from snakemake_logger_plugin_trainyard.table import end_lines, nothing_lines
from snakemake_logger_plugin_trainyard.terminal import Terminal

TICK = 0.5
HEARTBEAT_EVERY = 1.0
OUTLOOK_EVERY = 3.0


class Conductor:
    """One call of Snakemake, from its first record to its end."""

    def __init__(self, output: Any, results: str | None = None, heartbeat: float = 30.0, live: str = "auto", stream: Any = None) -> None:
        self.dryrun = bool(output.dryrun)
        quiet = frozenset(getattr(q, "name", str(q)).lower() for q in output.quiet or ())
        stream = stream or (sys.stdout if output.stdout else sys.stderr)
        self.terminal = Terminal(stream, "no" if self.dryrun else live, not output.nocolor)
        self.tracker = Tracker(self.dryrun, bool(output.verbose))
        self.commands = bool(getattr(output, "printshellcmds", False))
        logs = bool(getattr(output, "show_failed_logs", False))
        self.screen = Screen(self.terminal, self.tracker, self.outlook, self.heartbeat, quiet, heartbeat, self.commands, logs)
        self.given_results = results
        self.results = Path(results or "results")
        self.summary: Summary | None = None
        self.forecast = Forecast()
        self.quiet = quiet
        self.closed = False
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._beats: dict[int, tuple[float, Heartbeat | None]] = {}
        self._outlook: tuple[float, Outlook | None] = (0.0, None)
        self._plan_filter = PlanFilter(self.emit)
        logging.getLogger(SNAKEMAKE_LOGGER).addFilter(self._plan_filter)
        self._ticker: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """One record of Snakemake."""
        with self._lock:
            if getattr(record, "event", None) == LogEvent.WORKFLOW_STARTED:
                self.screen.begin()
            for notice in self.tracker.handle(record):
                self._act(notice)

    def _act(self, notice: Notice) -> None:
        tracker = self.tracker
        if notice.kind == "over":  # onerror runs next, and builds the report from the summary: say what was not run
            tracker.close(notice.at)
        if notice.kind in ("plan", "nothing"):
            self._begin()
        if notice.kind == "done" and notice.job is not None:
            self._machine(notice.job)
            if notice.job.seconds is not None:
                self.forecast.learn(notice.job.key, notice.job.seconds)
        if notice.kind == "failed" and notice.job is not None:
            self._machine(notice.job)
        if not self.dryrun or notice.kind == "message":
            self.screen.show(notice)
        if self.summary is not None and notice.kind in ("plan", "nothing", "started", "done", "failed", "retry", "stopping", "over"):
            self.summary.changed(tracker, now=notice.kind in ("plan", "nothing", "failed", "over"))
        if notice.kind == "done" and tracker.complete():
            self.screen.end()  # handlers speak next

    def _begin(self) -> None:
        """Snakemake has built its DAG: only now is this call known to be more than a mistake in the configuration."""
        if self._ticker is not None or self.summary is not None:
            return
        configured = self.tracker.config.get("results")
        self.results = Path(self.given_results or (configured if isinstance(configured, str) else None) or "results").absolute()
        summary = Summary(self.results / "summary.json")
        self.forecast = Forecast(summary.earlier.values(), self.results, planned_runs(self.tracker.config, self.tracker.home, self.results))
        if self.dryrun:
            return
        self.summary = summary
        if not self.tracker.nothing:
            self._ticker = threading.Thread(target=self._tick, name="trainyard-screen", daemon=True)
            self._ticker.start()

    def _tick(self) -> None:
        while not self._stop.wait(TICK):
            with self._lock:
                if self.closed:
                    return
                try:
                    self.screen.tick()
                    if self.summary is not None:
                        self.summary.flush(self.tracker)
                except Exception as error:  # a fault of ours must not cost a training
                    self.screen.ended = True
                    self.terminal.lines([f"the display stopped: {type(error).__name__}: {error}"])

    def heartbeat(self, job: Job) -> Heartbeat | None:
        """What a running training last said; nothing older than its start."""
        if not (job.rule.startswith("train") and job.suite and job.run):
            return None
        now = time.monotonic()
        read, beat = self._beats.get(job.jobid, (float("-inf"), None))
        if now - read >= HEARTBEAT_EVERY:
            beat = read_heartbeat(job.suite, job.run)
            if beat is not None and job.started is not None and beat.updated < job.started - 1:
                beat = None
            self._beats[job.jobid] = (now, beat)
        return beat

    def outlook(self) -> Outlook | None:
        """What is left, reckoned anew every few seconds."""
        now = time.monotonic()
        if now - self._outlook[0] >= OUTLOOK_EVERY or self._outlook[1] is None:
            jobs = list(self.tracker.jobs.values())
            said = {job.jobid: beat.left() for job in jobs if job.state == "running" and (beat := self.heartbeat(job))}
            tracker = self.tracker
            outlook = self.forecast.outlook(jobs, tracker.cores, time.time(), lambda job: said.get(job.jobid), tracker.elsewhere)
            self._outlook = (now, outlook if jobs and self.tracker.planned else None)
        return self._outlook[1]

    def _machine(self, job: Job) -> None:
        """Which machine ran a training, where the executor has not said it; itself says so, wherever it ran."""
        beat = self.heartbeat(job) if job.machine is None else None
        if beat is not None and isinstance(beat.values.get("host"), str):
            job.machine = beat.values["host"]

    def close(self) -> None:
        """The end of this call of Snakemake, however it came."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._stop.set()
            logging.getLogger(SNAKEMAKE_LOGGER).removeFilter(self._plan_filter)
            self.screen.end()
            lines: list[str] = []
            if self.dryrun:
                if self.tracker.nothing or (self.tracker.jobs and not self.tracker.broken):
                    lines = dryrun_lines(self.tracker, self.forecast, self.terminal, self.commands)
            elif self.summary is not None:
                now = time.time()
                self.tracker.close(now)
                self.summary.changed(self.tracker, now=True)
                lines = self._last(now)
            self.terminal.lines(lines)
        if self._ticker is not None and self._ticker is not threading.current_thread():
            self._ticker.join(timeout=2)

    def _last(self, now: float) -> list[str]:
        assert self.summary is not None
        problem = [self.terminal.paint(f"warning: {self.summary.problem}", "yellow")] if self.summary.problem else []
        quiet = "all" in self.quiet or {"rules", "progress"} <= self.quiet
        if self.tracker.nothing:
            return problem if quiet else [*nothing_lines(self.results, self.summary.path), *problem]
        if quiet and not self.tracker.by_state("failed", "interrupted", "skipped"):
            return problem
        return [*end_lines(self.tracker, self.terminal, self.results, self.summary.path, now), *problem]
