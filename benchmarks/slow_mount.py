"""A mount that answers late: slow_mount.py FOLDER MOUNT MILLISECONDS COUNTS [everything], a FUSE passthrough that waits at every
open; with `everything` also at every directory read and every question for a file's size.

COUNTS gets a line with the path for every open that arrives; with `everything` a line "open PATH", "readdir PATH" or "getattr PATH"
for every request. Needs fusepy and libfuse 2 (Debian: libfuse2).
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FIELDS = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid")


def serve(folder: str, mount: str, seconds: float, counts: str, everything: bool = False) -> None:
    """Serve until it is unmounted; every request has a thread of its own."""
    from fuse import FUSE, FuseOSError, Operations

    log = os.open(counts, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def wait(what, path):
        os.write(log, (f"{what} {path}\n" if everything else f"{path}\n").encode(errors="surrogateescape"))
        time.sleep(seconds)

    class Slow(Operations):
        def getattr(self, path, fh=None):
            if everything:
                wait("getattr", path)
            try:
                status = os.lstat(folder + path)
            except OSError as error:
                raise FuseOSError(error.errno) from None
            return {name: getattr(status, name) for name in FIELDS}

        def readdir(self, path, fh):
            if everything:
                wait("readdir", path)
            return [".", "..", *os.listdir(folder + path)]

        def open(self, path, flags):
            wait("open", path)
            return os.open(folder + path, flags)

        def read(self, path, size, offset, fh):
            return os.pread(fh, size, offset)

        def release(self, path, fh):
            os.close(fh)

    FUSE(Slow(), mount, foreground=True, nothreads=False, ro=True)


@contextmanager
def slow_mount(python: Path, folder: Path, mount: Path, milliseconds: float, counts: Path, everything: bool = False) -> Iterator[Path]:
    """Mount a folder for as long as the block runs. `python` is one that can import fuse. Raises RuntimeError where it cannot."""
    mount.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([python, __file__, folder, mount, str(milliseconds), counts, *(["everything"] if everything else [])])
    try:
        end = time.monotonic() + 10
        while not os.path.ismount(mount):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("FUSE does not mount here: it needs /dev/fuse, fusermount and libfuse 2")
            time.sleep(0.02)
        yield mount
    finally:
        subprocess.run(["fusermount", "-uz", mount], check=False)
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000, sys.argv[4], len(sys.argv) > 5)
