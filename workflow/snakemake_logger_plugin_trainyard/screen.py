"""What people see while it runs: a few lines redrawn on a terminal; in a pipe a line for what happens, and one now and then."""

import sys
import time
from collections.abc import Callable

from snakemake_logger_plugin_trainyard.events import Tracker
from snakemake_logger_plugin_trainyard.forecast import Outlook
from snakemake_logger_plugin_trainyard.heartbeat import Heartbeat
from snakemake_logger_plugin_trainyard.jobs import Job, Notice
from snakemake_logger_plugin_trainyard.reason import read_tail
from snakemake_logger_plugin_trainyard.symptoms import advise
from snakemake_logger_plugin_trainyard.terminal import ANSI, Terminal
from snakemake_logger_plugin_trainyard.words import WIDTH, clock, count, duration, name_list, shorten, wrap

INDENT = 9  # below a clock and a space
TELLING = 10.0  # on a terminal, a job that took this many seconds leaves a line
RUNNING_SHOWN = 8
LOG_SHOWN = 60  # last lines of a failed job's log, where they are asked for


class Screen:
    """Turns notices into lines. `heartbeat` gives what a running training says, `outlook` what is left."""

    def __init__(
        self,
        terminal: Terminal,
        tracker: Tracker,
        outlook: Callable[[], Outlook | None],
        heartbeat: Callable[[Job], Heartbeat | None],
        quiet: frozenset[str] = frozenset(),
        every: float = 30.0,
        commands: bool = False,
        logs: bool = False,
    ) -> None:
        self.terminal = terminal
        self.tracker = tracker
        self.outlook = outlook
        self.heartbeat = heartbeat
        self.silent = "all" in quiet
        self.no_jobs = self.silent or "rules" in quiet
        self.no_progress = self.silent or "progress" in quiet
        self.every = every
        self.commands = commands  # --printshellcmds
        self.logs = logs  # --show-failed-logs
        self.told = time.monotonic()
        self.ended = False

    def show(self, notice: Notice) -> None:
        """One notice. Failures and errors are shown however quiet it is to be."""
        if notice.kind in ("plan", "nothing"):
            self.terminal.clear()
        show = {
            "plan": self._plan,
            "started": self._started,
            "done": self._done,
            "failed": self._failed,
            "retry": self._retry,
            "message": self._message,
            "stopping": self._stopping,
        }.get(notice.kind)
        if show is not None:
            show(notice)
        if notice.kind == "over":
            self.end()

    def begin(self) -> None:
        """Before the DAG is known, which takes seconds for thousands of jobs."""
        if not self.no_progress:
            self.terminal.draw(["finding out what there is to do …"])

    def tick(self) -> None:
        """Called about twice a second: redraw, or the line for those who read a log."""
        if self.ended or self.no_progress or not self.tracker.jobs:
            return
        if self.terminal.live:
            self.terminal.draw(self._region())
        elif self.every and time.monotonic() - self.told >= self.every and self.tracker.by_state("running"):
            self.told = time.monotonic()
            self.terminal.lines([self._pulse()])

    def end(self) -> None:
        """Nothing is redrawn from here on: handlers and others may write to the terminal."""
        self.ended = True
        self.terminal.clear()

    # Lines that stay.

    def _plan(self, notice: Notice) -> None:
        if self.no_jobs and self.no_progress:
            return
        jobs = self.tracker.real
        rules: dict[str, int] = {}
        for job in jobs:
            rules[job.rule] = rules.get(job.rule, 0) + 1
        if not jobs:
            rules = {rule: n for rule, n in self.tracker.stats.items() if rule not in ("total", "all")}
        kinds = ", ".join(f"{n} {rule}" for rule, n in sorted(rules.items(), key=lambda item: (-item[1], item[0])))
        outlook = self.outlook()
        left = f"; {outlook.words()}" if outlook and outlook.known and outlook.words() else ""
        head = f"{count(self.tracker.total(), 'job')} to do{self._room()}: {kinds}{left}"
        self._lines(notice, "", wrap(head, INDENT))

    def _room(self) -> str:
        """Where there is room for how much: cores of this machine, or jobs sent to others."""
        if not self.tracker.elsewhere:
            return f" on {count(self.tracker.cores, 'core')}"
        return f", up to {self.tracker.cores} at once" if self.tracker.cores < sys.maxsize else ""

    def _started(self, notice: Notice) -> None:
        job = notice.job
        if job is None or self.no_jobs or (self.terminal.live and not self.commands):
            return
        again = f" (attempt {job.attempts})" if job.attempts > 1 else ""
        command = [f"{' ' * INDENT}{job.command}"] if self.commands and job.command else []
        self._lines(notice, "start ", [f"{job.label}{again}", *command])

    def _done(self, notice: Notice) -> None:
        job = notice.job
        if self.no_jobs or job is None or (self.terminal.live and (job.seconds or 0) < TELLING and job.attempts < 2):
            return
        counts = self.tracker.counts()
        took = f"  {duration(job.seconds)}" if job.seconds is not None else ""
        again = f" on attempt {job.attempts}" if job.attempts > 1 else ""
        progress = "" if self.terminal.live or self.no_progress else f"  [{counts['done']}/{counts['total']}]"
        self._lines(notice, "done  ", [f"{job.label}{took}{again}{progress}"], "green")

    def _failed(self, notice: Notice) -> None:
        if notice.job is not None:
            job = notice.job
            head = f"{job.label}  attempt {job.attempts}" + (f", after {duration(job.seconds)}" if job.seconds is not None else "")
            self._lines(notice, "FAILED", [head, *failure_lines(job, INDENT)], "red")
            if self.logs and (log := job.attempt_log or next(iter(job.log), None)):
                self.terminal.lines([f"{' ' * INDENT}| {line}" for line in "\n".join(read_tail(log)).strip().splitlines()[-LOG_SHOWN:]])

    def _retry(self, notice: Notice) -> None:
        if notice.job is not None and not self.no_jobs:
            self._lines(notice, "again ", [f"{notice.job.label}: attempt {notice.job.attempts + 1} follows"], "yellow")

    def _message(self, notice: Notice) -> None:
        error = notice.level >= 30
        if self.silent and not error:
            return
        lines = notice.text.splitlines()
        if notice.level >= 40 and (advice := advise(notice.text)):
            lines += wrap(advice, 2)
        style = "red" if notice.level >= 40 else "yellow" if error else "dim"
        self.terminal.lines([self.terminal.paint(line, style) for line in lines])

    def _stopping(self, notice: Notice) -> None:
        if "awaited" not in notice.text:
            self.end()  # everybody writes to the terminal now
        self.terminal.lines([self.terminal.paint(notice.text, "yellow")])

    def _lines(self, notice: Notice, word: str, lines: list[str], style: str | None = None) -> None:
        head = f"{word} " if word else ""
        first = f"{clock(notice.at or time.time())} {self.terminal.paint(head, style) if style else head}{lines[0].lstrip()}"
        self.terminal.lines([first, *lines[1:]])

    # What is redrawn.

    def _counted(self) -> str:
        counts = self.tracker.counts()
        failed = f", {counts['failed']} failed" if counts["failed"] else ""
        return f"{counts['done']}/{counts['total']} done{failed}"

    def _pulse(self) -> str:
        """One line about everything, for a log."""
        outlook = self.outlook()
        left = outlook.words() if outlook else ""
        parts = [self._counted() + (f", {left}" if left else "")]
        running = self._running()
        for job, words in running[:2]:
            parts.append(f"{job.name or job.rule} {words}" if words else job.label)
        if len(running) > 2:
            parts.append(f"{len(running) - 2} more run")
        return f"{clock(time.time())} run    {'; '.join(parts)}"

    def _running(self) -> list[tuple[Job, str]]:
        """Running jobs with what they say of themselves; those that say something first, then the longest."""
        out = []
        for job in self.tracker.by_state("running"):
            beat = self.heartbeat(job)
            out.append((job, beat.words() if beat else ""))
        return sorted(out, key=lambda pair: (not pair[1], pair[0].started or 0.0))

    def _region(self) -> list[str]:
        columns, rows = self.terminal.size()
        width = min(WIDTH, max(20, columns - 1))
        paint = self.terminal.paint
        counts = self.tracker.counts()
        done, total = counts["done"], max(1, counts["total"])
        outlook = self.outlook()
        left = outlook.words() if outlook else ""
        tail = f" {self._counted()}" + (f"  {left}" if left else "")
        bar = max(6, min(24, width - len(tail) - 1))
        filled = min(bar, bar * done // total)
        lines = [shorten(f"{'█' * filled}{'░' * (bar - filled)}{tail}", width)]
        if counts["failed"]:
            lines[0] = lines[0].replace(f"{counts['failed']} failed", paint(f"{counts['failed']} failed", "red"))
        running = self._running()
        room = max(1, min(RUNNING_SHOWN, rows - 3))
        shown = running if len(running) <= room else running[: room - 1]
        now = time.time()
        for job, words in shown:
            words = words or (duration(float(int(now - job.started))).replace(".0 s", " s") if job.started else "")
            room_for = max(10, width - len(words) - 5)
            label = job.label if len(job.label) <= room_for else shorten(job.name or job.rule, room_for)
            lines.append(f"  {paint(label, 'bold')}{' ' * max(2, min(40, width - len(words) - 2) - len(label))}{words}")
        if len(running) > len(shown):
            lines.append(f"  and {len(running) - len(shown)} more: {name_list([j.label for j, _ in running[len(shown) :]], 2)}")
        return [line if len(ANSI.sub("", line)) <= width else shorten(ANSI.sub("", line), width) for line in lines]


def failure_lines(job: Job, indent: int, hint: bool = True) -> list[str]:
    """Why a job failed, in at most five lines: the line that matters, what to do where that is known, and the log."""
    pad = " " * indent
    lines = wrap(job.reason or "no reason found", indent, lines=2)
    if hint and (advice := advise(job.reason or "")):
        lines += wrap(advice, indent, lines=2)
    log = job.attempt_log or (job.log[0] if job.log else None)
    return [*lines, f"{pad}log: {log}" if log else f"{pad}it has no log"]
