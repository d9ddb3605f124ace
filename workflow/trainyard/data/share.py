"""Numbered pieces of work shared among processes: each takes the next piece when it has done one, so that all end together.

Helpers are forks of this process: they start in a millisecond and know all that it knows. Where it cannot be forked safely, which
is where it has threads, and outside Linux, they are threads. What they send back are arrays of numbers, as bytes.
"""

import os
import signal
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence

from trainyard.data.errors import DataError

MOST_PIECES = 1000  # their numbers must fit into a pipe that has one page of memory
END, FAILED = -1, -2  # in place of a piece's number
Work = Callable[[int], Sequence[array]]


def share(work: Work, pieces: int, workers: int, first: Callable[[], object] = lambda: None) -> list[Sequence[array]]:
    """[work(0), …, work(pieces - 1)] from so many workers, this process among them, which calls `first` before its first piece.

    Raises what `work` raises in this process, and an OSError, DataError or MemoryError of a helper; RuntimeError for another one, and
    when a helper is killed. No helper is left behind: this process ends them when it fails or is interrupted, and they end by
    themselves, after their piece, when it is killed.
    """
    if not 0 <= pieces <= MOST_PIECES:
        raise ValueError(f"{pieces} pieces, not 0 to {MOST_PIECES}")
    helpers = min(workers, pieces) - 1
    if helpers < 1:
        first()
        return [work(piece) for piece in range(pieces)]
    if not _can_fork():
        from concurrent.futures import ThreadPoolExecutor

        first()
        with ThreadPoolExecutor(helpers + 1) as pool:
            return list(pool.map(work, range(pieces)))
    tickets, fill = os.pipe()
    os.write(fill, array("I", range(pieces)).tobytes())
    os.close(fill)
    running: list[_Helper] = []
    try:
        running += (_Helper(tickets, work) for _ in range(helpers))
        first()
        done: dict[int, Sequence[array]] = {piece: work(piece) for piece in _taken(tickets)}
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


class _Helper:
    """A fork that works until no piece is left and then sends what it made."""

    def __init__(self, tickets: int, work: Work):
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

    def results(self) -> Iterator[tuple[int, list[array]]]:
        """(piece, what it gave). Raises what the helper raised, RuntimeError when it was killed."""
        while True:
            piece, count = self._numbers(2)
            if piece == END:
                return
            if piece == FAILED:
                import json

                raise _error(json.loads(self._exactly(count)))
            arrays = []
            for _ in range(count):
                arrays.append(array(self._exactly(1).decode()))
                arrays[-1].frombytes(self._exactly(self._numbers(1)[0]))
            yield piece, arrays

    def end(self) -> None:
        self._answers.close()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None

    def _numbers(self, count: int) -> array:
        return array("q", self._exactly(8 * count))

    def _exactly(self, size: int) -> bytes:
        data = self._answers.read(size)
        if len(data) < size:
            raise self._death()
        return data

    def _death(self) -> RuntimeError:
        assert self.pid
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = None
        if code == -signal.SIGKILL:
            return RuntimeError("a helper process was killed (SIGKILL): out of memory? run again")
        return RuntimeError(f"a helper process ended ({signal.Signals(-code).name if code < 0 else f'exit code {code}'}); run again")


def _help(tickets: int, work: Work, send: int, parent: int) -> None:
    with os.fdopen(send, "wb") as out:
        try:
            done = []
            for piece in _taken(tickets):
                if os.getppid() != parent:
                    return
                done.append((piece, work(piece)))
            # Only now: whoever reads is at work too, and a full pipe would make this one wait. Memory goes as it is sent.
            done.reverse()
            while done:
                piece, arrays = done.pop()
                out.write(array("q", (piece, len(arrays))))
                for numbers in arrays:
                    out.write(numbers.typecode.encode() + array("q", (len(numbers) * numbers.itemsize,)).tobytes())
                    out.write(numbers)
            out.write(array("q", (END, 0)))
        except BaseException as error:
            import json

            text = json.dumps(_told(error)).encode()
            out.write(array("q", (FAILED, len(text))).tobytes() + text)


def _told(error: BaseException) -> list:
    """What `_error` makes the error from. A bug of ours leaves its traceback here."""
    if isinstance(error, OSError) and error.errno:
        return ["OSError", error.errno, error.strerror, error.filename if isinstance(error.filename, str) else None]
    if isinstance(error, OSError | DataError | MemoryError):
        return [type(error).__name__, str(error)]
    import traceback

    traceback.print_exc()
    return ["RuntimeError", f"{type(error).__name__} in a helper process: {error}"]


def _error(told: list) -> BaseException:
    kinds: dict[str, type[BaseException]] = {"DataError": DataError, "MemoryError": MemoryError, "RuntimeError": RuntimeError}
    return kinds.get(told[0], OSError)(*told[1:])
