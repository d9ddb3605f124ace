"""A training script found in a folder, run as a job of its own: process group, working folder, log, time limit, metrics.

The script is a stranger: nothing of it is imported. What it is told are flags that its source mentions; what it says are
its exit code, its log, and a metrics.json or results.json it may write into its output folder.
"""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.train.process_tree import adopt_orphans, descendants, end_all, signal_all

GRACE_SECONDS = 10.0
ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)  # that we should stop; a script is told by the first two
# Spellings in use; the first that a script mentions is the one it gets.
FLAGS = {
    "epochs": ("--epochs", "--num-epochs", "--num_epochs"),
    "folds": ("--folds", "--n-folds", "--num-folds", "--n_folds", "--num_folds"),
    "batch_size": ("--batch-size", "--batch_size", "--batch"),
    "output": ("--output-dir", "--output_dir"),
}
DULL = re.compile(r"^[\W_]*$|^\s*(File \".*\", line \d+|\^+|Traceback \(most recent call last\)|During handling of|The above exception)")
PROGRESS = re.compile(r"\d+%\|.*\|")
TELLING = re.compile(
    r"\b(error|exception|failed|killed|cannot|no such|not found|refused|denied|out of memory|abort|fault|unrecognized)\b", re.I
)
RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)(: |$)")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class ScriptError(RuntimeError):
    """The script did not end well; the message holds the line that matters."""


@dataclass(frozen=True)
class Outcome:
    """What became of a script. `ended` is exit, timeout, or the signal's name that stopped it from outside."""

    code: int
    ended: str
    seconds: float


def script_arguments(source: str, settings: dict[str, Any], output: Path) -> list[str]:
    """Flags for a script: those given in `settings` that its source mentions, the output folder, then extra_args."""
    given = {key: settings.get(key) for key in ("epochs", "folds", "batch_size")} | {"output": output}
    arguments = []
    for key, value in given.items():
        flag = next((f for f in FLAGS[key] if re.search(rf"(?<![\w-]){re.escape(f)}(?![\w-])", source)), None)
        if value is not None and flag:
            arguments += [flag, str(value)]
    return arguments + [str(a) for a in settings.get("extra_args") or ()]


def may_use_gpu(source: bytes) -> bool:
    """Whether a script's source speaks of a library that takes a GPU where there is one."""
    return re.search(rb"\b(torch|tensorflow|keras|jax|cupy|cuml|cudf|xgboost|lightgbm|catboost|cuda)\b", source) is not None


def run_script(script: Path, arguments: list[str], folder: Path, output: Path, minutes: float, watch: int | None = None) -> Outcome:
    """Run it in `folder`, output going where ours goes; at the end nothing that it started is left, in its process group or out of it.

    TRAINYARD_OUTPUT_DIR in its environment is `output`, for scripts that have no such flag.
    Stopped after `minutes`, on a signal to us, and when `watch`, the process that started us, is gone: first asked, after ten
    seconds (or at a second Ctrl+C) killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "TRAINYARD_OUTPUT_DIR": str(output.resolve()),
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": os.environ.get("MPLBACKEND", "Agg"),
    }
    asked: list[int] = []
    before = {s: signal.signal(s, lambda number, _: asked.append(number)) for s in _listened()}
    adopt_orphans()
    others = descendants(os.getpid())
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(script.resolve()), *arguments],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    ended = "exit"
    try:
        while process.poll() is None:
            if asked:
                ended = signal.Signals(asked[0]).name
            elif time.monotonic() - started > 60 * minutes:
                ended = "timeout"
            elif watch is not None and os.getppid() != watch:
                ended = "SIGHUP"
            if ended != "exit":
                _stop(process, signal.SIGINT if asked[:1] == [signal.SIGINT] else signal.SIGTERM, others, asked)
                break
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
    finally:
        _signal_group(process.pid, signal.SIGKILL)  # whatever it left running
        code = process.wait()
        end_all(os.getpid(), others)
        for number, handler in before.items():
            signal.signal(number, handler)
    return Outcome(code, ended, round(time.monotonic() - started, 3))


def _listened() -> list[signal.Signals]:
    """Under nohup a hangup is ignored, and stays so."""
    return [s for s in ASKING if s != signal.SIGHUP or signal.getsignal(s) is not signal.SIG_IGN]


def _stop(process: subprocess.Popen, number: int, others: list[int], asked: list[int]) -> None:
    """Ask all that the script started to end, and wait for the script a moment, until a further Ctrl+C is `asked` at most.

    Other signals come twice without meaning more: to the whole group, and from the workflow that passes its own on.
    """
    _signal_group(process.pid, number)
    signal_all([pid for pid in descendants(os.getpid(), others) if _left_group(pid, process.pid)], number)
    until, times = time.monotonic() + GRACE_SECONDS, asked.count(signal.SIGINT)
    while process.poll() is None and time.monotonic() < until and asked.count(signal.SIGINT) == times:
        time.sleep(0.05)


def _left_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) != group
    except ProcessLookupError:
        return False


def _signal_group(pid: int, number: int) -> None:
    """The group has the number of its first process, and keeps it while any member lives."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def check_outcome(outcome: Outcome, minutes: float, log: Path | None, begins: int = 0) -> None:
    """Raise ScriptError unless the script ended by itself with 0. Its output is in `log` from the byte `begins` on."""
    line = last_telling_line(log, begins) if log else ""
    last = f"its last line: {line}" if line else "it printed nothing"
    if outcome.ended == "timeout":
        raise ScriptError(f"stopped after {minutes:g} minutes with all that it had started; {last}")
    if outcome.ended != "exit":
        raise ScriptError(f"stopped from outside ({outcome.ended})")
    if outcome.code < 0:
        name = signal.Signals(-outcome.code).name if -outcome.code in set(signal.Signals) else str(-outcome.code)
        hint = "; perhaps out of memory" if name == "SIGKILL" else ""
        raise ScriptError(f"killed by {name}{hint}; {last}")
    if outcome.code:
        raise ScriptError(f"exit code {outcome.code}: {line or 'it printed nothing'}")


def last_telling_line(log: Path, begins: int = 0, limit: int = 300) -> str:
    """The line of a log, from a byte on, that says most about its end: the last of the exception's, else the last with an
    error word, else the last with words at all; progress bars and traceback frames aside. Empty where there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(begins, log.stat().st_size - (1 << 16)))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [ANSI.sub("", raw.rsplit("\r", 1)[-1]).rstrip() for raw in text.splitlines()]
    lines = [line for line in lines if not DULL.search(line) and not PROGRESS.search(line)]
    tail = lines[-40:]
    raised = [line for line in tail if RAISED.match(line)]
    telling = [line for line in tail if TELLING.search(line)]
    best = (raised or telling or tail or [""])[-1].strip()
    return best if len(best) <= limit else best[: limit - 1] + "…"
