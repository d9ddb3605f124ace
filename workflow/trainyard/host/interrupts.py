"""Ctrl+C in a call of Snakemake: the first lets running jobs save and stop, the second ends at once, in one line.

Left to itself Snakemake takes the second while it waits for its jobs, and ends in a traceback of its own.
"""

import os
import signal
import threading
from collections.abc import Callable

INTERRUPTED = 128 + signal.SIGINT


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
