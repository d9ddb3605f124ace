"""A second process for half of the work: a forked copy of this one, which has everything that was read so far without being told."""

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from trainyard.data.errors import DataError

T = TypeVar("T")


def can_fork() -> bool:
    """Whether a core is free for a second process, and nothing would be left half done by a fork: no other thread."""
    if not hasattr(os, "sched_getaffinity"):  # macOS: its libraries do not survive a fork
        return False
    cores = len(os.sched_getaffinity(0))
    # Two processes take a quarter more of the processors: no gain where others keep them busy.
    return cores > 1 and os.getloadavg()[0] < (os.cpu_count() or 1) - 0.25 and threading.active_count() == 1


@contextmanager
def beside(work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Do `work` in a forked process while the block runs; what is yielded waits for its result, or raises what it raised.

    Where the block is left early the process is ended; it ends by itself when this one dies.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run(work, writer, parent)
    os.close(writer)
    done = False

    def result() -> T:
        nonlocal done
        with open(reader, "rb", closefd=False) as pipe:
            data = pipe.read()
        os.waitpid(child, 0)
        done = True
        if not data:
            raise DataError("a process that did half of the work was ended from outside: out of memory?")
        good, value = pickle.loads(data)  # noqa: S301 - from a fork of this very process
        if not good:
            raise value
        return value

    try:
        yield result
    finally:
        os.close(reader)
        if not done:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _run(work: Callable[[], Any], writer: int, parent: int) -> None:
    code = 1
    try:
        # Asked to stop, the first process ends this one: what it would say comes only once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
        try:
            answer = pickle.dumps((True, work()), protocol=5)
        except Exception as error:
            answer = pickle.dumps((False, error))
        with open(writer, "wb") as pipe:
            pipe.write(answer)
        code = 0
    finally:
        os._exit(code)


def _leave_with(parent: int) -> None:
    """End this process when the one that forked it is gone."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
