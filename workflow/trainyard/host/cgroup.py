"""Limits of the control groups that this process lives in: what a container, a Slurm step or a systemd unit may use.

Version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html; version 1: https://docs.kernel.org/admin-guide/cgroup-v1
A limit on any group above holds too, so each is asked.
"""

import math
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
NO_LIMIT = 1 << 60  # version 1 writes a huge number where there is none


def memory_limit(root: Path = ROOT) -> float:
    """Bytes that the groups allow; infinity without a limit."""
    limits = [_number(f) for folder in _folders("memory", root) for f in (folder / "memory.max", folder / "memory.limit_in_bytes")]
    return min((n for n in limits if n is not None and n < NO_LIMIT), default=math.inf)


def memory_left(root: Path = ROOT) -> float:
    """Bytes that may still be used; infinity without a limit. Pages of files that could be let go count as left."""
    left = math.inf
    for folder in _folders("memory", root):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None and most < NO_LIMIT:
                left = min(left, most - now + _files_pages(folder))
    return max(left, 0)


def cpu_limit(root: Path = ROOT) -> float:
    """Cores' worth of time that the groups allow; infinity without a limit."""
    least = math.inf
    for folder in _folders("cpu", root):
        quota: float | None
        try:
            first, second = (folder / "cpu.max").read_text().split()[:2]
            quota, period = (None if first == "max" else float(first)), float(second)
        except (OSError, ValueError):
            quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us") or 0.0
        if quota and quota > 0 and period:
            least = min(least, quota / period)
    return least


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """Folders of this process' groups, from its own up to the top of what is mounted here."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, names, path = line.split(":", 2)
        for mount in mounts:
            left, _, right = mount.partition(" - ")
            kind, options = right.split()[0], right.split()[-1].split(",")
            if kind != ("cgroup" if names else "cgroup2") or (names and (controller not in names.split(",") or controller not in options)):
                continue
            # A container may see the mount without the path of the host above it.
            top = root / left.split()[4].lstrip("/")
            below = path.removeprefix(left.split()[3].rstrip("/")).strip("/")
            here = top / below
            while True:
                if here.is_dir():
                    yield here
                if here == top:
                    break
                here = here.parent


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):  # "max" is no number: no limit
        return None


def _files_pages(folder: Path) -> float:
    try:
        rows = dict(line.split()[:2] for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0.0
    return float(rows.get("total_inactive_file") or rows.get("inactive_file") or 0)
