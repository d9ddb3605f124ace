"""Decoding in worker processes: results in the order of the input, and no file can take the copy down.

A chunk of files goes to a worker in one message; answers come file by file, so when a worker dies it is known which
file it held. That file is tried once more, alone, in a new worker (the machine may have been short of memory); when that
one dies too, or when its time was up, the file is refused, and the rest of the chunk goes on.
"""

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import trainyard
from trainyard.data.decode_worker import HEAD, NO_MEMORY, unpack_arrays
from trainyard.data.errors import DataError

MAX_TASKS = 5000  # files a worker reads before a fresh one takes its place: parsers leak
WALL = 4  # a worker that sleeps instead of computing is ended after this many times its limit, …
LEAST_WALL = 3.0  # … and no sooner than this: a busy machine is no reason to refuse a file
START_SECONDS = 120
LEAVE_SECONDS = 2.0


@dataclass(frozen=True)
class Task:
    """One sample to decode: its index row and the bytes of its files."""

    sample: dict[str, Any]
    blobs: list[bytes]


class Decoded(NamedTuple):
    """The fields of a sample, or why it is refused."""

    fixed: dict[str, Any]
    ragged: dict[str, Any]
    refused: str | None = None


class WorkerDied(Exception):
    """The worker process is gone; the message is a reason for the file it held."""

    def __init__(self, message: str, final: bool):
        super().__init__(message)
        self.final = final


class Worker:
    """One worker process."""

    def __init__(self, start: dict[str, Any]):
        self.seconds, self.tasks = float(start["seconds"]), 0
        self.wall = max(WALL * self.seconds, LEAST_WALL)
        library = str(Path(trainyard.__file__).parent.parent)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": library}
        command = [sys.executable, "-P", "-m", "trainyard.data.decode_worker"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0)
        self._out = self.process.stdout.fileno()  # type: ignore[union-attr]
        os.set_blocking(self._out, False)
        self._send(start, [])
        self._deadline = time.monotonic() + START_SECONDS
        try:
            answer, _ = self._receive()
        except WorkerDied as death:
            answer = {"failed": f"{death}; it says more above"}
        if "failed" in answer:
            self.stop()
            raise DataError(f"the reader {start['reader']} does not start: {answer['failed']}")
        self.meta: dict[str, Any] = answer["meta"]

    def run(self, tasks: list[Task]) -> Iterator[Decoded]:
        """Answers one by one. Raises WorkerDied when the process ends before the next."""
        items = [{"sample": t.sample, "sizes": [len(b) for b in t.blobs]} for t in tasks]
        self._send({"items": items}, [b for t in tasks for b in t.blobs])
        for _ in tasks:
            self._deadline = time.monotonic() + self.wall
            answer, body = self._receive()
            self.tasks += 1
            if "refused" in answer:
                yield Decoded({}, {}, answer["refused"])
                continue
            fixed, rest = unpack_arrays(answer["fixed"], body)
            yield Decoded(fixed, unpack_arrays(answer["ragged"], rest)[0])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _send(self, header: dict, blobs: list[bytes]) -> None:
        text = json.dumps(header).encode()
        stream = self.process.stdin
        try:
            for part in (HEAD.pack(len(text), sum(map(len, blobs))) + text, *blobs):
                view = memoryview(part)
                while view:
                    view = view[stream.write(view) :]  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # the answer that does not come says why

    def _receive(self) -> tuple[dict[str, Any], memoryview]:
        length, size = HEAD.unpack(self._exactly(HEAD.size))
        header = json.loads(bytes(self._exactly(length)))
        return header, memoryview(self._exactly(size))

    def _exactly(self, size: int) -> bytearray:
        data, have = bytearray(size), 0
        view = memoryview(data)
        while have < size:
            try:
                count = os.readv(self._out, [view[have:]])
            except BlockingIOError:
                if not select.select([self._out], [], [], max(0.0, self._deadline - time.monotonic()))[0]:
                    self.stop()
                    raise WorkerDied(f"its parser did not end within {self.wall:g} s", True) from None
                continue
            if count == 0:
                raise self._death()
            have += count
        return data

    def _death(self) -> WorkerDied:
        with contextlib.suppress(subprocess.TimeoutExpired):  # of its own accord, or it would seem that it was killed
            self.process.wait(LEAVE_SECONDS)
        self.stop()
        code = self.process.returncode
        if code == NO_MEMORY:
            return WorkerDied("needs more memory to read than a worker may use", False)
        if code == -signal.SIGPROF:
            return WorkerDied(f"its parser took more than {self.seconds:g} s", True)
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return WorkerDied(f"its parser crashed ({name}{': out of memory?' if name == 'SIGKILL' else ''})", False)
        return WorkerDied(f"its parser ended the process (exit code {code})", False)


class DecodePool:
    """Workers with one reader each. `start`: reader ("module:Class"), format, features, root, context, seconds, memory_mb."""

    def __init__(self, start: dict[str, Any], workers: int):
        self._start = {**start, "path": sys.path}
        self._count = max(1, workers)
        self._idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        self._all: set[Worker] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="decode")
        self.restarts = 0
        first = self._new()
        self.meta = first.meta
        self._idle.put(first)
        for _ in range(self._count - 1):
            self._idle.put(None)  # started when there is work for it

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            workers = list(self._all)
        for worker in workers:
            worker.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def map(self, chunks: Iterable[list[Task]]) -> Iterator[list[Decoded]]:
        """Answers of each chunk, in order; a few chunks are held at a time."""
        waiting: deque[Future[list[Decoded]]] = deque()
        for chunk in chunks:
            waiting.append(self._threads.submit(self._decode, chunk))
            while len(waiting) > 2 * self._count or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _new(self) -> Worker:
        with self._lock:
            if self._closed:
                raise DataError("stopped")
        worker = Worker(self._start)
        with self._lock:
            self._all.add(worker)
        return worker

    def _drop(self, worker: Worker) -> None:
        worker.stop()
        with self._lock:
            self._all.discard(worker)

    def _decode(self, chunk: list[Task]) -> list[Decoded]:
        worker = self._idle.get()
        out: list[Decoded] = []
        suspect = False  # the next task already took one worker with it: it is tried alone
        try:
            while len(out) < len(chunk):
                if worker is not None and worker.tasks >= MAX_TASKS:
                    self._drop(worker)
                    worker = None
                worker = worker or self._new()
                tasks = chunk[len(out) : len(out) + 1] if suspect else chunk[len(out) :]
                try:
                    for answer in worker.run(tasks):
                        out.append(answer)
                        suspect = False
                except WorkerDied as death:
                    self._drop(worker)
                    worker = None
                    self.restarts += 1
                    if self._closed:
                        raise DataError("stopped") from None
                    if suspect or death.final:
                        out.append(Decoded({}, {}, str(death)))
                        suspect = False
                    else:
                        suspect = True
        finally:
            self._idle.put(worker)
        return out
