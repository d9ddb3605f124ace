"""A file while it is copied, under another name, until it is known to hold what was read."""

import contextlib
import os
from threading import Semaphore

import xxhash

from trainyard.data.refused import Refused

BLOCK = 256 << 10  # read, hashed and written at once
LARGE = 1 << 20  # bytes of a file that is brought to the disk by itself, while others are copied: small ones get there together


class HalfCopy:
    """A file while it is written: hashed as it came, and compared with what the copy gives back. The first block waits for the second, or
    the end.

    Each block is read back as soon as it is written: the processor's caches still hold it, which makes it cost half as much.
    """

    def __init__(self, path: str, turn: Semaphore):
        """`turn`: as many as there are cores work on blocks at once, for more would drive each other's out of the caches."""
        self.path, self._turn, self.size, self.mtime_ns = path, turn, 0, 0
        self.read, self._same = xxhash.xxh3_128(), True
        self.failed: OSError | None = None
        self._out, self._end, self._buffer = -1, 0, bytearray()
        self._on_its_way = 0  # bytes that the system was told to bring to the disk
        self._first: bytes | None = None

    @property
    def begun(self) -> bool:
        """Whether it is written already."""
        return self._end > 0

    def take(self, block: bytes) -> None:
        """One block more. Raises Refused when the copy fails; why is in `failed`."""
        with self._turn:
            self.read.update(block)
            if self._first is None and not self.begun:
                self._first = block
                return
            try:
                self._flush()
                self._write(block)
            except OSError as error:
                self.failed = error
                raise Refused("the copy cannot be written") from None

    def restart(self) -> None:
        self.read.reset()
        self._first, self._end, self._on_its_way, self._same = None, 0, 0, True
        if self._out >= 0:
            os.ftruncate(self._out, 0)

    def finish(self) -> None:
        """Write what is left. Raises OSError, and Refused unless the copy holds what was read, and nothing more."""
        self._flush()
        if not self._is_same():
            raise Refused("the copy differs from what was read: check the local disk")
        os.utime(self._out, ns=(self.mtime_ns, self.mtime_ns))
        if self._end >= LARGE:
            os.fsync(self._out)
        self._close()

    def _is_same(self) -> bool:
        return self._same and os.fstat(self._out).st_size == self._end

    def drop(self) -> None:
        if self._out >= 0:
            self._close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def _close(self) -> None:
        out, self._out = self._out, -1
        os.close(out)

    def _flush(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            self._write(first)

    def _write(self, block: bytes) -> None:
        if self._out < 0:
            self._out = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        done = os.pwrite(self._out, block, self._end)
        while done < len(block):
            done += os.pwrite(self._out, memoryview(block)[done:], self._end + done)
        self._same &= self._read_back(self._end, len(block)) == block
        self._end += len(block)
        if self._end - self._on_its_way >= LARGE:
            self._send_on_its_way()

    def _send_on_its_way(self) -> None:
        """Have the disk begin with what is written, while more is read; left to itself it would wait for the end of the file."""
        if hasattr(os, "posix_fadvise"):
            # On Linux to say that pages are no longer needed begins to write them; those that are not on the disk yet stay in memory.
            os.posix_fadvise(self._out, self._on_its_way, self._end - self._on_its_way, os.POSIX_FADV_DONTNEED)
        self._on_its_way = self._end

    def _read_back(self, at: int, size: int) -> bytearray:
        if len(self._buffer) != size:
            self._buffer = bytearray(size)
        view, got = memoryview(self._buffer), 0
        while got < size and (count := os.preadv(self._out, [view[got:]], at + got)):
            got += count
        return self._buffer if got == size else self._buffer[:got]
