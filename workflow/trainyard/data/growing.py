"""A file that is only appended to, and that can be gone on with after a kill: it is known at any time what it should hold."""

import os
from pathlib import Path
from typing import Any

import xxhash

Mark = tuple[int, str]  # bytes, and xxh3 (128 bits) of them


class GrowingFile:
    """Appends to an empty file, or goes on behind a mark of an earlier one."""

    def __init__(self, path: Path, mark: Mark | None = None):
        """Raises ValueError when the file does not begin with what the mark says; then it is left as it is."""
        self.path, self.size = path, 0
        self._digest: Any = xxhash.xxh3_128()
        if mark is not None:
            self._check(*mark)
        self._file = open(path, "wb" if mark is None else "r+b", 1 << 16)  # noqa: SIM115 - open for the life of the object
        self._file.truncate(self.size)
        self._file.seek(self.size)

    def append(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def mark(self) -> Mark:
        """Size and digest of what was appended, all of it handed to the system: it outlives this process."""
        self._file.flush()
        return self.size, self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()

    def _check(self, size: int, digest: str) -> None:
        try:
            with open(self.path, "rb") as file:
                while self.size < size and (block := file.read(min(1 << 20, size - self.size))):
                    self._digest.update(block)
                    self.size += len(block)
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror}") from None
        if (self.size, self._digest.hexdigest()) != (size, digest):
            raise ValueError(f"{self.path}: does not hold what was written")


def append_file(out: int, path: Path) -> None:
    """Append a whole file to one that is open for writing, within the kernel where it can. Raises OSError."""
    with open(path, "rb", buffering=0) as part:
        left = os.fstat(part.fileno()).st_size
        while left and hasattr(os, "copy_file_range"):
            try:
                done = os.copy_file_range(part.fileno(), out, left)
            except OSError:  # a file system that cannot, or two that cannot together; what is left is read and written
                break
            if not done:
                break
            left -= done
        while block := part.read(1 << 22):
            view = memoryview(block)
            while view:
                view = view[os.write(out, view) :]
