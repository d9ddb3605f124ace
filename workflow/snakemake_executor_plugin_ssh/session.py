"""One connection to an agent: a process and its two pipes, one question and one answer at a time."""

import contextlib
import os
import selectors
import subprocess
import tempfile
import time
from typing import Any

from .host.frames import Frames, encode
from .openssh import Unreachable

_MARK = b"\n@snakemake-ssh@\n"
_GREETING = 1 << 20


class Session:
    """`command` starts an agent, with `preamble` on its standard input. It is in a session of its own, so that Ctrl+C does not reach it
    before the jobs were cancelled over it."""

    def __init__(self, command: list[str], preamble: bytes):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True, bufsize=0
        )
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._frames, self._heard, self._begun = Frames(), b"", False
        self._unsent = bytearray(preamble)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def wake(self) -> None:
        """From any thread: what waits for an answer is to have it soon."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b".")

    def drop_wakes(self) -> None:
        """Before asking: earlier wakes are about what is asked now."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def exchange(self, header: dict[str, Any] | None, raw: bytes = b"", timeout: float = 30) -> tuple[dict[str, Any], bytes]:
        """Send a message (None: only listen) and return the answer.
        Unreachable: none came in `timeout` seconds, or the connection ended."""
        if header is not None:
            self._unsent += encode(header, raw)
        until = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                self._flush(selector)
                try:
                    if (message := self._frames.next()) is not None:
                        return message
                except (ValueError, KeyError, TypeError) as problem:
                    raise Unreachable(f"its answer cannot be read: {problem}") from None
                left = until - time.monotonic()
                if left <= 0:
                    raise Unreachable(f"no answer within {timeout:.0f} s")
                for key, _ in selector.select(left):
                    if key.fd == self._out:
                        self._read()
                    elif key.fd == self._wake_read:
                        self.drop_wakes()
                        self._unsent += encode({"wake": True})

    def _flush(self, selector: selectors.BaseSelector) -> None:
        """Send what can be sent now; keep an eye on the pipe only while something is left."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self._in, self._unsent[: 1 << 16])]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # The other end is gone; reading tells how.
        watched = self._in in selector.get_map()
        if self._unsent and not watched:
            selector.register(self._in, selectors.EVENT_WRITE)
        elif watched and not self._unsent:
            selector.unregister(self._in)

    def _read(self) -> None:
        try:
            data = os.read(self._out, 1 << 18)
        except BlockingIOError:
            return
        if not data:
            raise Unreachable("the connection ended")
        if self._begun:
            self._frames.feed(data)
            return
        # What the login shell prints comes first and is not for us.
        self._heard += data
        before, mark, after = self._heard.partition(_MARK)
        if mark:
            self._begun, self._heard = True, before[-300:]
            self._frames.feed(after)
        elif len(self._heard) > _GREETING:
            raise Unreachable(f"it printed {self._heard[:100]!r} and so on, and no agent answered")

    def said(self) -> tuple[int | None, str]:
        """Exit code (waits a moment for it), and what was printed beside the answers."""
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            code = None
        self._errors.seek(0)
        return code, self._errors.read(20000).decode(errors="replace") + self._heard[-2000:].decode(errors="replace")

    def close(self) -> None:
        """End the connection; jobs know nothing of it."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)
        self._wake_write = self._wake_read = -1
