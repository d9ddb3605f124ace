"""How much room storage has and how fast it answers: measured, with what the system holds of it in memory kept out."""

import io
import mmap
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.data.mounts import describe
from trainyard.host.resources import usable_cores

NEAR_READS, MOST_READS = 8, 128
FAR_READS = 64  # in flight on a mount whose latency nobody has measured yet
PER_FILE = 0.5e-3  # seconds that hashing and decoding a small file take one core, at the least
BLOCK = 64 << 10  # a direct read is of whole blocks
F_NOCACHE = 48  # macOS, fcntl.h


@dataclass(frozen=True)
class Speed:
    """Median seconds to open a file and read its first block; MB a second of the largest one (0: too small to say); files looked at.

    cached: the system would not let go of its copy in memory, so the medium may be slower.
    """

    latency: float
    megabytes: float
    files: int
    cached: bool = False


def free_bytes(path: str | os.PathLike) -> int:
    """Bytes that this user may still write where a path lies, or will lie."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def size(count: float) -> str:
    """Bytes as a person says them."""
    for unit, name, digits in ((1e9, "GB", 1), (1e6, "MB", 1), (1e3, "kB", 0)):
        if count >= unit:
            return f"{count / unit:,.{digits}f} {name}"
    return f"{count:.0f} bytes"


def read_threads(path: str | os.PathLike) -> int:
    """How many reads to keep in flight before any was timed: many where each waits for a network, few where the processor is the limit:
    more than two a core would only take turns."""
    return max(2, min(NEAR_READS, 2 * int(usable_cores()))) if describe(path).local else FAR_READS


def reads_for(latency: float) -> int:
    """How many reads to keep in flight where one takes `latency` seconds: as many as keep the rest of the copy busy meanwhile.

    Little's law: in flight = seconds each takes × files a second; the copy needs a file every PER_FILE seconds a core.
    """
    return max(NEAR_READS, min(MOST_READS, round(latency / PER_FILE)))


def probe(paths: Sequence[str | os.PathLike], seconds: float = 2.0, most: int = 64 << 20) -> Speed | None:
    """Measure up to 32 files, one at a time, for `seconds` at most; None when none can be read."""
    latencies: list[float] = []
    best, way = 0.0, ""
    end = time.perf_counter() + seconds
    buffer = memoryview(mmap.mmap(-1, 4 << 20))  # page-aligned, as direct reads want it
    for path in list(paths)[:32]:
        if time.perf_counter() > end and latencies:
            break
        try:
            way = way or _way(path, buffer)
            begin = time.perf_counter()
            with _open(path, way) as file:
                size = first = file.readinto(buffer[:BLOCK])
                latencies.append(time.perf_counter() - begin)
                start, part = time.perf_counter(), first
                while part and part % BLOCK == 0 and size < most and time.perf_counter() < end:
                    size += (part := file.readinto(buffer))
                if size - first >= 1 << 20:
                    best = max(best, (size - first) / 1e6 / max(time.perf_counter() - start, 1e-9))
        except OSError:
            continue
    if not latencies:
        return None
    return Speed(sorted(latencies)[len(latencies) // 2], best, len(latencies), way == "cached")


def _way(path: str | os.PathLike, buffer: memoryview) -> str:
    """How to make the medium answer rather than the system's memory: "direct", "dropped", or "cached" where there is no way."""
    if hasattr(os, "O_DIRECT"):
        try:
            with _open(path, "direct") as file:
                file.readinto(buffer[:BLOCK])
            return "direct"
        except OSError:  # a file system without it
            pass
    return "dropped" if hasattr(os, "posix_fadvise") else "cached"


def _open(path: str | os.PathLike, way: str) -> io.FileIO:
    flags = os.O_RDONLY | os.O_CLOEXEC | (getattr(os, "O_DIRECT", 0) if way == "direct" else 0)
    handle = os.open(path, flags)
    if way == "dropped":
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    elif way == "cached" and sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(handle, F_NOCACHE, 1)
    return io.FileIO(handle, "rb")
