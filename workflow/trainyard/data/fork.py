"""A helper: a fork of this process. It starts in a millisecond, knows all that this one knows, and sends back what it makes."""

import contextlib
import gc
import marshal
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Generic, TypeVar, cast

from trainyard.data.errors import DataError

T = TypeVar("T")
Send = Callable[..., None]  # a number that says what it is, and parts (bytes, arrays) that are sent as one

HEAD = struct.Struct("=qq")  # of a frame: its number, and the bytes behind it
END, FAILED = -1, -2  # in place of a number
PIPE = 1 << 20  # bytes that may be under way; where the system allows less, as many as it does
# Arrow's memory has a thread that tidies up, and that gets ready for a fork by itself.
SAFE_THREADS = {"jemalloc_bg_thd"}


def can_fork() -> bool:
    """A thread may hold a lock at the moment of a fork, and the fork would wait for it for ever."""
    return sys.platform == "linux" and sum(name not in SAFE_THREADS for name in _threads()) == 1


def _threads() -> Iterator[str]:
    for number in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/self/task/{number}/comm") as file:
            yield file.read().strip()  # one that ends meanwhile holds nothing any more


class Fork:
    """A fork that does some work. `end` ends it at once; without this process it ends by itself, when it has something to send."""

    def __init__(self, work: Callable[[Send], object]):
        answers, send = os.pipe()
        # Ctrl+C reaches the whole group: this process ends its helpers, which must not unwind as if they were it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        self.pid: int | None = os.fork()
        if not self.pid:
            try:
                os.close(answers)
                gc.disable()  # to look for garbage is to write to every page that both share, which copies it
                _work(work, send)
            finally:
                os._exit(1)
        os.close(send)
        self._answers = os.fdopen(answers, "rb")
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def received(self) -> Iterator[tuple[int, bytes]]:
        """What was sent, in order. Raises an OSError, DataError or MemoryError of the work; RuntimeError for another one, and when the
        helper is killed."""
        while True:
            number, size = HEAD.unpack(self._exactly(HEAD.size))
            if number == END:
                return
            data = self._exactly(size)
            if number == FAILED:
                raise _error(_object(data))
            yield number, data

    def end(self) -> None:
        self._answers.close()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None

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


class MadeAhead(Generic[T]):
    """Items that a fork makes while this process is at work with those before, as many as a pipe holds. They are numbers, texts,
    bytes, and bare tuples, lists and dicts of those (what `marshal` takes)."""

    def __init__(self, items: Iterable[T]):
        """The fork begins at once, with `items` as they are now."""

        def make(send: Send) -> None:
            for item in items:
                send(0, marshal.dumps(cast(Any, item)))

        self._fork = Fork(make)

    def __iter__(self) -> Iterator[T]:
        return (_object(data) for _, data in self._fork.received())

    def close(self) -> None:
        self._fork.end()


def _object(data: bytes) -> Any:
    return marshal.loads(data)  # it comes from a fork of this process, over a pipe that nobody else has, and can only hold values


def _work(work: Callable[[Send], object], send: int) -> None:
    with os.fdopen(send, "wb") as out, contextlib.suppress(BrokenPipeError):
        _widen(out)

        def send_frame(number: int, *parts: Any) -> None:
            views = [memoryview(part).cast("B") for part in parts]
            out.write(HEAD.pack(number, sum(map(len, views))))
            for view in views:
                out.write(view)

        try:
            work(send_frame)
            send_frame(END)
        except BrokenPipeError:
            raise  # who began is gone
        except BaseException as error:
            send_frame(FAILED, marshal.dumps(_told(error)))


def _widen(pipe: BinaryIO) -> None:
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)


KINDS: dict[str, type[Exception]] = {"OSError": OSError, "DataError": DataError, "MemoryError": MemoryError, "RuntimeError": RuntimeError}


def _told(error: BaseException) -> tuple[Any, ...]:
    """What `_error` makes the error from. A bug of ours leaves its traceback here."""
    if isinstance(error, OSError) and error.errno:
        return "OSError", error.errno, error.strerror, error.filename if isinstance(error.filename, str) else None
    if isinstance(error, OSError | DataError | MemoryError):
        return next(name for name, kind in KINDS.items() if isinstance(error, kind)), str(error)
    import traceback

    traceback.print_exc()
    return "RuntimeError", f"{type(error).__name__} in a helper process: {error}"


def _error(told: tuple[Any, ...]) -> BaseException:
    name, *words = told
    return KINDS[name](*words)
