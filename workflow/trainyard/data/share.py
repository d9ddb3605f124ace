"""Numbered pieces of work shared among processes: each takes the next piece when it has done one, so that all end together.

Helpers are forks of this process: they start in a millisecond and know all that it knows. Where it cannot be forked safely, which
is where it has threads, and outside Linux, they are threads.
"""

import os
import pickle
import signal
import sys
import traceback
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
MOST_PIECES = 1000  # their numbers must fit into a pipe that has one page of memory


def share(work: Callable[[int], T], pieces: int, workers: int, first: Callable[[], object] = lambda: None) -> list[T]:
    """[work(0), …, work(pieces - 1)] from so many workers, this process among them, which calls `first` before its first piece.

    Raises what `work` raises, in whichever process; RuntimeError when a helper is killed. No helper is left behind: this process
    ends them when it fails or is interrupted, and they end by themselves, after their piece, when it is killed.
    """
    if not 0 <= pieces <= MOST_PIECES:
        raise ValueError(f"{pieces} pieces, not 0 to {MOST_PIECES}")
    helpers = min(workers, pieces) - 1
    if helpers < 1:
        first()
        return [work(piece) for piece in range(pieces)]
    if not _can_fork():
        first()
        with ThreadPoolExecutor(helpers + 1) as pool:
            return list(pool.map(work, range(pieces)))
    tickets, fill = os.pipe()
    os.write(fill, array("I", range(pieces)).tobytes())
    os.close(fill)
    running: list[_Helper[T]] = []
    try:
        running += (_Helper(tickets, work) for _ in range(helpers))
        first()
        done = {piece: work(piece) for piece in _taken(tickets)}
        for helper in running:
            done.update(helper.results())
    finally:
        os.close(tickets)
        for helper in running:
            helper.end()
    return [done[piece] for piece in range(pieces)]


def _can_fork() -> bool:
    """A thread may hold a lock at the moment of a fork, and the fork would wait for it for ever."""
    return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1


def _taken(tickets: int) -> Iterator[int]:
    """The pieces that this process gets: whoever reads a number from the pipe has it for itself."""
    while ticket := os.read(tickets, 4):
        yield int.from_bytes(ticket, sys.byteorder)


class _Helper(Generic[T]):
    """A fork that works until no piece is left and then sends what it made."""

    def __init__(self, tickets: int, work: Callable[[int], T]):
        parent = os.getpid()
        answers, send = os.pipe()
        # Ctrl+C reaches the whole group: this process ends its helpers, which must not unwind as if they were it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.pid: int | None = os.fork()
        if not self.pid:
            try:
                _help(tickets, work, send, parent)
            finally:
                os._exit(1)
        os.close(send)
        self._answers = os.fdopen(answers, "rb")
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def results(self) -> Iterator[tuple[int, T]]:
        """(piece, what it gave). Raises what the helper raised, RuntimeError when it was killed."""
        while True:
            try:
                answer = pickle.load(self._answers)  # noqa: S301 our own process wrote it
            except (EOFError, pickle.UnpicklingError):
                raise self._death() from None
            if answer is None:
                return
            if isinstance(answer[0], BaseException):
                error, text = answer
                raise error from RuntimeError(f"in a helper:\n{text}")
            yield answer

    def end(self) -> None:
        self._answers.close()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None

    def _death(self) -> RuntimeError:
        assert self.pid
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = None
        if code == -signal.SIGKILL:
            return RuntimeError("a helper process was killed (SIGKILL): out of memory? run again")
        return RuntimeError(f"a helper process ended ({signal.Signals(-code).name if code < 0 else f'exit code {code}'}); run again")


def _help(tickets: int, work: Callable[[int], object], send: int, parent: int) -> None:
    with open(send, "wb") as out:
        try:
            done = []
            for piece in _taken(tickets):
                if os.getppid() != parent:
                    return
                done.append((piece, work(piece)))
            # Only now: whoever reads is at work too, and a full pipe would make this one wait. Memory goes as it is sent.
            done.reverse()
            while done:
                pickle.dump(done.pop(), out)
            pickle.dump(None, out)
        except BaseException as error:
            pickle.dump((error, traceback.format_exc()), out)
