"""What is said at the end: failed ones first, why and on which attempt; what was not run because of them; where the results are."""

import time
from pathlib import Path

from snakemake_logger_plugin_trainyard.events import Tracker
from snakemake_logger_plugin_trainyard.jobs import Job
from snakemake_logger_plugin_trainyard.screen import failure_lines
from snakemake_logger_plugin_trainyard.terminal import Terminal
from snakemake_logger_plugin_trainyard.words import count, duration, name_list, wrap

MOST_FAILED = 40  # beyond: the summary has them all


def end_lines(tracker: Tracker, terminal: Terminal, results: Path, summary: Path, now: float) -> list[str]:
    """The lines printed last."""
    paint = terminal.paint
    counts = tracker.counts()
    took = duration(now - tracker.started)
    lines: list[str] = []
    failed = tracker.by_state("failed")
    if failed:
        lines += ["", paint(f"Failed: {len(failed)} of {count(counts['total'], 'job')}", "red", "bold")]
        for job in sorted(failed, key=lambda j: (j.rule, j.name))[:MOST_FAILED]:
            lines.append(f"  {paint(job.label, 'bold')}  attempt {job.attempts}")
            lines += failure_lines(job, 4)
        if len(failed) > MOST_FAILED:
            lines.append(f"  and {len(failed) - MOST_FAILED} more: {summary}")
    stopped = tracker.by_state("interrupted")
    if stopped:
        lines += ["", paint(f"Interrupted: {count(len(stopped), 'job')}", "yellow", "bold"), *grouped(stopped)]
        lines += wrap("A training goes on from its last checkpoint when `snakemake` is called again.", 2)
    skipped = tracker.by_state("skipped")
    if skipped:
        because = [job for job in skipped if (job.reason or "").startswith("needs ")]
        others = [job for job in skipped if job not in because]
        lines.append("")
        if because:
            lines += [
                paint(f"Not run because of {'them' if failed or stopped else 'others'}: {count(len(because), 'job')}", "yellow", "bold")
            ]
            lines += grouped(because)
        if others:
            rules: dict[str, int] = {}
            for job in others:
                rules[job.rule] = rules.get(job.rule, 0) + 1
            kinds = ", ".join(f"{n} {rule}" for rule, n in sorted(rules.items()))
            lines += wrap(f"Not reached: {count(len(others), 'job')} ({kinds})", 0)
    missing = counts["total"] - len(tracker.real)
    if missing > 0 and (failed or stopped):
        lines.append(f"Not run: {count(missing, 'more job')}")
    retried = sum(job.attempts > 1 for job in tracker.by_state("done"))
    again = f" ({retried} of them not on the first attempt)" if retried else ""
    good = not (failed or stopped or skipped or tracker.broken)
    lines += ["", paint(f"Done: {count(counts['done'], 'job')} in {took}{again}", *(("green", "bold") if good else ("bold",)))]
    lines += where(results, summary, tracker.started)
    if failed:
        lines += wrap(
            "`snakemake` again runs the failed ones and what depends on them; `trainyard logs --errors` shows why they failed.", 0
        )
    return lines


def nothing_lines(results: Path, summary: Path) -> list[str]:
    """What is said where there is nothing to do."""
    return ["Nothing to do: every result is there and up to date.", *where(results, summary, None)]


def where(results: Path, summary: Path, since: float | None) -> list[str]:
    """Where the report and the summary are."""
    report = results / "report" / "index.html"
    lines = []
    try:
        old = since is not None and report.stat().st_mtime < since
        lines.append(
            f"Report:  {shown(report)}"
            + (f" (from {time.strftime('%Y-%m-%d %H:%M', time.localtime(report.stat().st_mtime))})" if old else "")
        )
    except OSError:
        pass
    if summary.exists():
        lines.append(f"Summary: {shown(summary)}")
    return lines


def shown(path: Path) -> str:
    """A path below the working folder without it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def grouped(jobs: list[Job]) -> list[str]:
    """Jobs by rule, names folded."""
    rules: dict[str, list[str]] = {}
    for job in jobs:
        rules.setdefault(job.rule, []).append(job.name)
    lines = []
    for rule, names in sorted(rules.items()):
        named = [n for n in names if n]
        lines += wrap(f"{rule}: {name_list(named)}" if named else rule, 2)
    return lines
