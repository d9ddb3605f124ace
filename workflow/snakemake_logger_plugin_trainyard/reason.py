"""The line that matters: from a job's log and exit status to one sentence that says why it failed."""

import os
import re
from pathlib import Path

TAIL = 64 * 1024
LONGEST = 400
STORAGE = ".snakemake/storage/s3/"  # where a storage puts the files of this project's jobs

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# What our own commands, argparse and most tools print last. Also `slurmstepd: error: …` and `bash: line 3: error: …`.
SAID = re.compile(r"^(?:[\w./-]+: ){0,2}(?:\*\*\* )?(?:fatal )?error: \S|^[A-Za-z_][\w.]*(?:Error|Exception): \S", re.IGNORECASE)
TRACEBACK = re.compile(r"^(?:[^\w]*)Traceback \(most recent call last\):")
FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+)')
EXCEPTION = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?:: (?P<text>.*)|:?)$")
# Said by the system, not by the program: the program had no more words.
SYSTEM = re.compile(
    r"^(?:.*\b)?(?:Killed|Terminated|Segmentation fault|Bus error|Illegal instruction|Aborted|Out of memory|Memory cgroup out of memory|"
    r"oom[-_]kill|DUE TO TIME LIMIT|std::bad_alloc|No space left on device|Disk quota exceeded|command not found)\b",
    re.IGNORECASE,
)
WEAK = re.compile(r"\b(?:error|exception|failed|refused|cannot|no such file|permission denied|timed out)\b", re.IGNORECASE)

STATUS = {
    75: "stopped early and saved its state; the next call goes on from there",
    124: "stopped at its time limit",
    126: "its command is not executable",
    127: "its command was not found",
    130: "stopped by Ctrl+C",
    134: "aborted (SIGABRT)",
    135: "bus error (SIGBUS): often a full /dev/shm or a file that shrank while it was read",
    136: "arithmetic fault (SIGFPE)",
    137: "killed from outside (SIGKILL): usually the machine ran out of memory",
    139: "crashed in compiled code (segmentation fault)",
    143: "asked to stop (SIGTERM)",
}
SIGNALS = {"SIGINT": 130, "SIGABRT": 134, "SIGBUS": 135, "SIGFPE": 136, "SIGKILL": 137, "SIGSEGV": 139, "SIGTERM": 143}


def read_tail(path: str | os.PathLike, size: int = TAIL) -> list[str]:
    """The last lines of a text file; empty where it cannot be read. A progress bar counts as the last text it showed."""
    try:
        with open(path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - size))
            data = file.read()
    except OSError:
        return []
    lines = data.decode("utf-8", "replace").split("\n")
    if length > size:
        lines = lines[1:]
    return [ANSI.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip() for line in lines]


def meaningful_line(lines: list[str]) -> str | None:
    """The line that says why: the last `error: …`, exception of a traceback or word of the system; None if nothing does."""
    found: str | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        if TRACEBACK.match(line):
            said, at = _exception(lines, at + 1)
            found = said or found
            continue
        if SAID.match(line.strip()) or SYSTEM.match(line.strip()) and not (found and found.lower().startswith("error: ")):
            found = line.strip()
        at += 1
    return found


def _exception(lines: list[str], at: int) -> tuple[str | None, int]:
    """The exception's line of a traceback whose frames start at `at`, and where the text goes on."""
    place = None
    while at < len(lines):
        line = lines[at]
        if frame := FRAME.match(line):
            place = f"{Path(frame['file']).name}:{frame['line']}"
        elif line and not line[0].isspace():
            match = EXCEPTION.match(line)
            if match is None:
                return None, at
            text, told = line, bool(match["text"])
            if not told and at + 1 < len(lines) and lines[at + 1].strip() and not TRACEBACK.match(lines[at + 1]):
                text, told = f"{line} {lines[at + 1].strip()}", True  # a message that starts on the next line
            # A bare name, or a key in quotes, tells nothing without its place.
            bare = not told or match["name"].rpartition(".")[2] in {"KeyError", "IndexError", "AssertionError", "StopIteration"}
            return (f"{text} ({place})" if bare and place else text), at + 1
        at += 1
    return None, at


def exit_words(status: int | str | None) -> str | None:
    """An exit status (or a signal's name, or a negative number) in words."""
    if status is None or status == "":
        return None
    if isinstance(status, str):
        number = SIGNALS.get(status)
        if number is None:
            return f"stopped by {status}"
    else:
        number = 128 - status if status < 0 else status
    return STATUS.get(number, f"exit status {number}")


def exit_status(message: str) -> int | str | None:
    """The exit status in Snakemake's `returned non-zero exit status 3.` or `died with <Signals.SIGKILL: 9>.`."""
    if match := re.search(r"returned non-zero exit status (-?\d+)", message):
        return int(match[1])
    if match := re.search(r"died with <Signals\.(\w+):", message):
        return match[1]
    return None


def reason_of(logs: list[str | os.PathLike], status: int | str | None = None) -> str:
    """Why a job failed, in one line of at most 400 characters: the first of its logs that says something, and its exit status."""
    fallback = None
    words = exit_words(status)
    outside = words is not None and not words.startswith("exit status")
    for path in logs:
        lines = [line for line in read_tail(path) if line.strip()]
        if not lines:
            continue
        line = meaningful_line(lines)
        if line:
            # Killed from outside: an older message in the log is not why.
            late = any(line.startswith(last.strip()[:40]) or last.strip() in line for last in lines[-3:])
            return _short(line if not outside or late or status in (130, "SIGINT") else f"{words}; last said: {line}")
        weak = [line for line in lines[-30:] if WEAK.search(line)]
        fallback = fallback or (weak[-1] if weak else lines[-1]).strip()
    if words and fallback:
        return _short(f"{words}; last line: {fallback}")
    if words:
        return _short(f"{words}; its log is empty")
    return _short(fallback) if fallback else "no reason found: its log is empty or missing"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def at_home(log: str | os.PathLike) -> str:
    """A job's log as a path that can be read here: of a job that ran elsewhere, its copy in the store that this project keeps.

    Snakemake says `s3://bucket/…/job.log (send to storage)`, or where the storage puts it while the job runs.
    """
    text = re.sub(r" \((?:send to|retrieve from) storage\)$", "", str(log))
    if Path(text).exists():
        return text
    here, cut, rest = text.partition(STORAGE)
    if text.startswith("s3://"):
        here, rest = "", text.removeprefix("s3://")
    elif not cut:
        return text
    local, kept = Path(STORAGE + rest), Path(here, ".trainyard", "store", rest)
    return str(local) if local.exists() else str(kept) if kept.exists() else text


def attempt_logs(log: str | os.PathLike) -> list[Path]:
    """The logs of a job's attempts (`<stem>.<UTC time>….log` beside it), newest first."""
    log = Path(log)
    pattern = re.compile(re.escape(log.stem) + r"\.\d{8}T?\d{4,}.*" + re.escape(log.suffix))
    try:
        found = [p for p in log.parent.iterdir() if pattern.fullmatch(p.name)]
    except OSError:
        return []
    return sorted(found, key=lambda p: p.name, reverse=True)


def newest_log(log: str | os.PathLike, since: float | None = None) -> str:
    """The log of the newest attempt (not older than `since`, epoch seconds); `log` itself where attempts have none of their own."""
    for path in attempt_logs(log)[:1]:
        try:
            if since is None or path.stat().st_mtime >= since - 2:
                return str(path)
        except OSError:
            pass
    return str(log)
