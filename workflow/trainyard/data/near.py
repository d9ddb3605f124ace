"""Packs that lie on a network mount are copied to a local disk first, once a machine: training then reads them at the speed of memory.

A copy is named by the pack's place, size and time of change, made under a lock that ends with its process, verified, and renamed when
it is whole: jobs that start together wait for the one that copies, and a kill leaves nothing that looks like a pack. A pack that
has changed is copied anew. Where no disk has room the pack is read where it lies, which is said.
"""

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash

from trainyard.data.errors import DataError
from trainyard.data.mounts import Mount, describe
from trainyard.data.storage import free_bytes

CHUNK, READS = 8 << 20, 8
SPARE = 64 << 20  # bytes left free for others
LOOK_AGAIN = 0.2  # seconds
_held: list[int] = []  # handles of copies in use: open, and so locked, as long as this process lives


def bring_near(
    paths: Iterable[str], say: Callable[[str], Any] = print, stop: Callable[[], bool] = lambda: False, most: int | None = None
) -> dict[str, str]:
    """For each path the one to read instead: itself on a local disk, else a copy on one (of at most `most` bytes).

    Raises DataError when the mount does not answer or the copy is not what was read.
    """
    return {path: _near(path, say, stop, most) for path in dict.fromkeys(paths)}


def near_folder() -> Path | None:
    """Where copies lie: the first local disk of $TRAINYARD_LOCAL_DISK (also one in memory), $SLURM_TMPDIR, the folder for temporary
    files, /var/tmp."""
    # Variables in it are this machine's: a profile is written on another.
    asked = os.path.expanduser(os.path.expandvars(os.environ.get("TRAINYARD_LOCAL_DISK", "")))
    if asked:
        return Path(asked)
    for place in (os.environ.get("SLURM_TMPDIR"), tempfile.gettempdir(), "/var/tmp"):
        if place and os.path.isdir(place) and os.access(place, os.W_OK) and describe(place).kind in ("local", "overlay"):
            return Path(place)
    return None


def _near(path: str, say: Callable[[str], Any], stop: Callable[[], bool], most: int | None) -> str:
    mount = describe(path)
    if mount.local:
        return path
    if mount.trouble:
        raise DataError(f"{path}: {mount.words} does not answer: {mount.trouble}; mount it again and run again")
    status = os.stat(path)
    if most is not None and status.st_size > most:
        return path
    place = near_folder()
    if place is None:
        say(f"note: {path} lies on {mount.words}, and no local disk was found to copy it to: set TRAINYARD_LOCAL_DISK")
        return path
    try:
        folder = _own_folder(place)
    except OSError as error:
        say(f"note: {path} is read from {mount.words}, slowly: {place} cannot be written to ({error.strerror}); "
            "set TRAINYARD_LOCAL_DISK to a local disk")  # fmt: skip
        return path
    return _PackCopy(path, status, mount, folder).get(say, stop)


def _own_folder(place: Path) -> Path:
    """A folder of this user alone. Raises DataError where somebody else has put one in its place."""
    folder = place / f"trainyard-packs-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise DataError(f"{folder}: is not a folder that only you can write to; remove it, or set TRAINYARD_LOCAL_DISK to another place")
    return folder


class _PackCopy:
    """The copy of one pack."""

    def __init__(self, path: str, status: os.stat_result, mount: Mount, folder: Path):
        self.path, self.size, self.stamp, self.mount = path, status.st_size, (status.st_size, status.st_mtime_ns), mount
        key = xxhash.xxh3_64_hexdigest(os.fsencode(os.path.realpath(path)))
        self.folder, self.own = folder, folder / key
        # The suffix says what kind of pack it is.
        self.target = self.own / f"{self.stamp[0]}-{self.stamp[1]}-{os.path.basename(path)}"

    def get(self, say: Callable[[str], Any], stop: Callable[[], bool]) -> str:
        self.own.mkdir(mode=0o700, exist_ok=True)
        with self._alone(say, stop) as alone:
            if not alone:
                return self.path
            if self._hold():
                return str(self.target)
            for old in self.own.iterdir():  # of an earlier state of the pack, or half a copy; who reads an old one keeps it till the end
                if old.name != "lock":
                    old.unlink(missing_ok=True)
            missing = self._make_room()
            try:
                if missing <= 0:
                    self._copy(say)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise DataError(f"{self.path}: could not be copied to {self.folder}: {error.strerror}") from None
                missing = max(1, self.size + SPARE - free_bytes(self.folder))
            if missing > 0:
                say(f"note: {self.path} is read from {self.mount.words}, slowly: {self.folder} lacks {missing / 1e6:,.1f} MB for a copy; "
                    "make room there, or set TRAINYARD_LOCAL_DISK to a larger disk")  # fmt: skip
                return self.path
            return str(self.target) if self._hold() else self.path

    @contextlib.contextmanager
    def _alone(self, say: Callable[[str], Any], stop: Callable[[], bool]) -> Iterator[bool]:
        """Whether this process alone deals with the copy now; False when `stop()` came true while it waited."""
        handle = os.open(self.own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            told = False
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        say(f"waiting for another job that copies {self.path} to this machine")
                    told = True
                if stop():
                    yield False
                    return
                time.sleep(LOOK_AGAIN)
            yield True
        finally:
            os.close(handle)

    def _hold(self) -> bool:
        """Keep the copy from being removed while this process lives; False when there is none."""
        try:
            handle = os.open(self.target, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        fcntl.flock(handle, fcntl.LOCK_SH)
        status = os.fstat(handle)
        if not status.st_nlink or status.st_size != self.size:  # just removed to make room
            os.close(handle)
            return False
        _held.append(handle)
        os.utime(self.target)
        return True

    def _make_room(self) -> int:
        """Bytes that are missing, after copies that nobody uses are gone, the oldest first."""
        need = self.size + SPARE
        copies = [p for p in self.folder.glob("*/*") if p.name != "lock" and p.parent != self.own]
        for copy in sorted(copies, key=_time):
            if free_bytes(self.folder) >= need:
                break
            with contextlib.suppress(OSError):
                handle = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    copy.unlink()
                finally:
                    os.close(handle)
        return need - free_bytes(self.folder)

    def _copy(self, say: Callable[[str], Any]) -> None:
        say(f"copying {self.path} from {self.mount.words} to {self.folder}, {self.size / 1e6:,.0f} MB")
        started = time.monotonic()
        half = self.target.with_name(f".{self.target.name}.tmp")
        source = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        out = os.open(half, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(out, fcntl.LOCK_SH)  # nobody removes it as unused
            chunks = range(0, self.size, CHUNK)
            with ThreadPoolExecutor(READS) as pool:
                digests = list(pool.map(lambda at: _copy_chunk(source, out, at, min(CHUNK, self.size - at)), chunks))
            os.fsync(out)
            for at, digest in zip(chunks, digests):
                if digest is None or xxhash.xxh3_128_digest(_read(out, at, min(CHUNK, self.size - at))) != digest:
                    raise DataError(f"{self.path}: its copy is not what was read; run again, and check the disk of {self.folder}")
            after = os.stat(self.path)
            if (after.st_size, after.st_mtime_ns) != self.stamp:
                raise DataError(f"{self.path}: changed while it was copied to this machine; run again")
            os.replace(half, self.target)
        finally:
            os.close(source)
            os.close(out)
            half.unlink(missing_ok=True)
        say(f"copied and verified in {time.monotonic() - started:.1f} s")


def _copy_chunk(source: int, out: int, at: int, size: int) -> bytes | None:
    """xxh3 of what was read; None when the file ended early."""
    data = _read(source, at, size)
    view = memoryview(data)
    while view:
        view = view[os.pwrite(out, view, at + len(data) - len(view)) :]
    return xxhash.xxh3_128_digest(data) if len(data) == size else None


def _read(file: int, at: int, size: int) -> bytes:
    parts = []
    while size and (part := os.pread(file, size, at)):
        parts.append(part)
        at, size = at + len(part), size - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
