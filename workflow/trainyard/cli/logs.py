"""`trainyard logs`: of each job the newest attempt, and of failed ones the line that matters."""

import re
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from snakemake_logger_plugin_trainyard.reason import attempt_logs, meaningful_line, read_tail, reason_of
from snakemake_logger_plugin_trainyard.symptoms import advise
from snakemake_logger_plugin_trainyard.words import duration, natural, shorten, wrap

from trainyard.cli.status import read_summary

ATTEMPT = re.compile(r"(?P<stem>.+)\.\d{8}T?\d{4,}[^/]*\.log")
POLL = 0.5
LISTED = 40


@dataclass(frozen=True)
class JobLog:
    """The log of a job; `base` is Snakemake's file, `path` the newest attempt's."""

    name: str  # rule/suite/run
    base: Path

    @property
    def path(self) -> Path:
        return next(iter(attempt_logs(self.base)), self.base)

    @property
    def attempts(self) -> int:
        return max(1, len(attempt_logs(self.base)))

    @property
    def changed(self) -> float:
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0


def find_logs(folder: Path, pattern: str | None = None) -> list[JobLog]:
    """The logs of all jobs below `folder` whose rule/suite/run fits; attempts of one job are one."""
    bases = set()
    for path in folder.rglob("*.log"):
        if path.name.startswith("."):
            continue
        attempt = ATTEMPT.fullmatch(path.name)
        bases.add(path.with_name(attempt["stem"] + ".log") if attempt else path)
    found = [JobLog(str(base.relative_to(folder).with_suffix("")), base) for base in bases]
    return sorted((log for log in found if fits(log.name, pattern)), key=lambda log: natural(log.name))


def fits(name: str, pattern: str | None) -> bool:
    """Whether a pattern fits the whole of rule/suite/run or its end, or is a part of it."""
    if not pattern:
        return True
    if any(c in pattern for c in "*?["):
        return fnmatchcase(name, pattern) or fnmatchcase(name, f"*/{pattern}")
    return pattern in name


def run_logs(folder: Path, results: Path, pattern: str | None, follow: bool, errors: bool, lines: int) -> int:
    """Print logs; returns the exit code."""
    if errors:
        return show_errors(folder, results, pattern)
    found = find_logs(folder, pattern)
    if not found:
        print(f"No log in {folder} fits '{pattern}'; `trainyard logs` lists them." if pattern else f"There are no logs in {folder}.")
        return 1
    if pattern is None and not follow:
        return list_logs(found)
    for log in found:
        if len(found) > 1:
            print(f"==> {log.path}")
        tail = read_tail(log.path) if lines else read_tail(log.path, 1 << 40)
        text = "\n".join(tail[:-1][-lines:] if lines else tail).rstrip("\n")
        print(text or f"({log.path} is empty)")
    if follow:
        follow_logs(found)
    return 0


def list_logs(found: list[JobLog]) -> int:
    """One line a log, the newest last, where a person looks first."""
    newest = sorted(found, key=lambda log: log.changed)
    if len(newest) > LISTED:
        print(f"{len(newest) - LISTED} older logs; name a part of rule/suite/run to see one")
    for log in newest[-LISTED:]:
        again = f"  attempts {log.attempts}" if log.attempts > 1 else ""
        print(f"{duration(time.time() - log.changed):>12} ago  {shorten(log.name, 60)}{again}")
    return 0


def show_errors(folder: Path, results: Path, pattern: str | None) -> int:
    """Each failed job with the line that matters; without a summary, every log that holds an error."""
    summary = read_summary(results)
    shown = 0
    if summary is not None:
        for job in summary["jobs"]:
            name = "/".join(str(job[k]) for k in ("rule", "suite", "run") if job.get(k))
            if job.get("state") in ("failed", "interrupted") and fits(name, pattern):
                log = job.get("log")
                _show_error(
                    f"{name}  {job['state']}, attempt {job.get('attempts')}", job.get("reason") or reason_of([log] if log else []), log
                )
                shown += 1
    else:
        for found in find_logs(folder, pattern):
            line = meaningful_line(read_tail(found.path))
            if line:
                _show_error(found.name, line, str(found.path))
                shown += 1
    if not shown:
        print("No failed job" + (f" fits '{pattern}'." if pattern else "."))
    return 0 if shown else 1


def _show_error(name: str, reason: str, log: str | None) -> None:
    print(name)
    advice = advise(reason)
    print("\n".join([*wrap(reason, 2), *(wrap(advice, 2) if advice else []), f"  log: {log or 'none'}"]))


def follow_logs(found: list[JobLog], stop: float | None = None) -> None:
    """Print what is added to the logs, and to those of new attempts, until Ctrl+C (or, for tests, for `stop` seconds)."""
    places = {log.base: (log.path, _size(log.path)) for log in found}
    last: Path | None = None
    end = time.monotonic() + stop if stop is not None else None
    while end is None or time.monotonic() < end:
        for log in found:
            path, at = places[log.base]
            newest = log.path
            # What an attempt wrote last comes before the next one's first word.
            for current in dict.fromkeys([path, newest]):
                text, at = _read_on(current, at if current == path else 0)
                if text:
                    if len(found) > 1 and current != last:
                        print(f"==> {current}")
                    last = current
                    print(text, end="", flush=True)
            places[log.base] = (newest, at)
        time.sleep(POLL)


def _read_on(path: Path, at: int) -> tuple[str, int]:
    """What was added to a file after `at` bytes, and its new end; a file written anew is read from its start."""
    try:
        with open(path, "rb") as file:
            file.seek(at if _size(path) >= at else 0)
            return file.read().decode("utf-8", "replace"), file.tell()
    except OSError:
        return "", at


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
