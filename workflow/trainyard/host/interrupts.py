"""A call of Snakemake that is asked to end. Ctrl+C: the first lets running jobs save and stop, the second ends at once, in one line.
SIGTERM or SIGUSR1, to Snakemake alone, is passed on to the trainings that it runs here.

Left to itself Snakemake takes the second Ctrl+C while it waits for its jobs, and ends in a traceback of its own; and at a SIGTERM it
waits until the running jobs have ended, however many hours that takes, while whoever sent it soon sends SIGKILL.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
CAN_STOP = "--watch-parent"  # the flag of a command that saves and leaves when it is told to
LOOK = 0.3  # seconds between two looks for a training that was just being started


def at_once_at_the_second(last: Callable[[], None]) -> None:
    """From now on a second Ctrl+C calls `last` and ends this process. Only the main thread can ask for that; else nothing is done."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return
    seen: list[int] = []

    def on_interrupt(number: int, _frame) -> None:
        seen.append(number)
        if len(seen) == 1:
            raise KeyboardInterrupt
        try:
            last()
            os.write(2, b"\nstopped at once; `snakemake` goes on from the last checkpoints\n")
        finally:
            os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, on_interrupt)


def pass_on_a_stop() -> None:
    """From now on SIGTERM and SIGUSR1 reach the trainings that this process runs, too.

    To be called when Snakemake has set its own handler, which sees to it that no further job begins.
    """
    begin_no_more = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(begin_no_more):
        return
    asked = threading.Event()

    def on_stop(number: int, _frame) -> None:
        if not asked.is_set():
            asked.set()
            threading.Thread(target=_stop, args=(number, begin_no_more), daemon=True).start()

    signal.signal(signal.SIGTERM, on_stop)
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, on_stop)


def _stop(number: int, begin_no_more: Callable[[int, Any], Any]) -> None:
    """In a thread of its own: Snakemake's handler takes a lock, which the main thread may hold where the signal met it."""
    begin_no_more(number, None)
    print(f"received {signal.Signals(number).name}: trainings save and leave; `snakemake` goes on from there", file=sys.stderr, flush=True)
    told: set[int] = set()
    while True:  # a job may be on its way; this thread ends with the process
        for pid in _trainings():
            if pid not in told:
                told.add(pid)
                with suppress(OSError):
                    os.kill(pid, signal.SIGTERM)
        time.sleep(LOOK)


def _trainings() -> Iterator[int]:
    """Processes below this one whose command can save and leave."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(CAN_STOP in word for word in child.cmdline()):
                yield child.pid
