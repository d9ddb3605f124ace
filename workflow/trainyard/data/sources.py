"""Reading source files once, safely: never out of the root, never a device or pipe, never more than allowed."""

import errno
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path

from trainyard.data.errors import DataError
from trainyard.data.names import from_text
from trainyard.data.refused import Refused

MAX_BYTES = 2 << 30
BLOCK = 16 << 20
# A mount that answers like this may be back in a moment; one that stays so is gone, and no file is to blame.
PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EINTR,
    errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else errno.EIO,
}
GONE = {errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO}
PAUSES = (0.2, 1.0)
WINDING = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")  # in a path: `.`, `..`, nothing between slashes, or a slash at its beginning or end
Stamp = tuple[int, int]  # size and time of change, in ns: a file with the same is taken for unchanged


class MountGone(DataError):
    """The data are away as a whole; what was read of them is still good."""


class SourceFolder:
    """The folder below which samples lie. Paths are text as in the index."""

    def __init__(self, base: Path, max_bytes: int = MAX_BYTES, block: int = BLOCK):
        """`block`: bytes that are read at once; small ones stay in the processor's cache, large ones need no joining."""
        self.base, self.max_bytes, self.block = str(base), max_bytes, block
        self._top = self.base.rstrip("/")
        self.real = os.path.realpath(base)
        self._inside: dict[str, bool] = {}

    def read(self, text: str) -> tuple[bytes, Stamp]:
        """The bytes of a file, opened once, and its stamp. Raises Refused with the reason, MountGone when the mount is."""
        parts: list[bytes] = []
        stamp = self.stream(text, parts.append, parts.clear)
        return parts[0] if len(parts) == 1 else b"".join(parts), stamp

    def stamp(self, text: str) -> Stamp | None:
        """The stamp that a file has now, without opening it; None when it cannot be had."""
        try:
            status = os.stat(self._path(text))
        except (OSError, Refused):
            return None
        return status.st_size, status.st_mtime_ns

    def stream(self, text: str, take: Callable[[bytes], object], restart: Callable[[], object]) -> Stamp:
        """Hand a file's blocks to `take`; after a passing error of the mount `restart` is called and it begins anew.

        Returns the file's stamp and raises as `read` does. An error of `take` is not one of the file's: it must be no OSError.
        """
        path = self._path(text)
        for pause in (*PAUSES, None):
            try:
                return self._stream(path, take)
            except OSError as error:
                if error.errno in GONE or (error.errno == errno.ENOENT and not os.path.isdir(self.base)):
                    raise MountGone(
                        f"{self.base}: the data are no longer there ({error.strerror}); mount them again and run again"
                    ) from None
                if pause is None or error.errno not in PASSING:
                    raise Refused(_words(error)) from None
                time.sleep(pause)
                restart()
        raise AssertionError("unreachable")

    def _path(self, text: str) -> str:
        name = from_text(text)
        if "\0" in name:
            raise Refused("its path holds a zero byte")
        path = f"{self._top}/{name}" if not WINDING.search(name) else os.path.normpath(os.path.join(self.base, name))
        folder, _, last = path.rpartition("/")
        if folder not in self._inside:
            self._inside[folder] = self._contains(os.path.realpath(folder))
        if not self._inside[folder] or not last:
            raise Refused("its path leads out of the root, which is never followed")
        return path

    def _contains(self, real: str) -> bool:
        return real == self.real or real.startswith(self.real.rstrip("/") + "/")

    def _stream(self, path: str, take: Callable[[bytes], object]) -> Stamp:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            file = os.open(path, flags | os.O_NOFOLLOW)
        except OSError as error:
            # ELOOP (Linux, macOS) and EMLINK (BSD): it is a link.
            if error.errno not in (errno.ELOOP, errno.EMLINK):
                raise
            if not self._contains(os.path.realpath(path)):
                raise Refused("a link out of the root, which is never followed") from None
            file = os.open(path, flags)
        try:
            before = os.fstat(file)
            if not stat.S_ISREG(before.st_mode):
                raise Refused("not a regular file")
            if before.st_size > self.max_bytes:
                raise Refused(f"{before.st_size / 1e6:,.0f} MB, more than the {self.max_bytes / 1e6:,.0f} MB that a sample may have")
            size = 0
            while part := os.read(file, asked := min(max(before.st_size + 1 - size, 1), self.block)):
                take(part)
                size += len(part)
                if size > before.st_size or (size == before.st_size and len(part) < asked):  # more than there should be, or the end
                    break
            after = os.fstat(file)
        finally:
            os.close(file)
        if size != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise Refused("changed while it was read")
        if not size:
            raise Refused("empty file (0 bytes)")
        return before.st_size, before.st_mtime_ns


def _words(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "not there: no such file"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied"
    return f"cannot be read: {error.strerror}"
