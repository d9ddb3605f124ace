"""What kind of storage a path lies on, found from the mount table, and how fast it answers, measured."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NETWORK = {
    "nfs": "NFS", "nfs4": "NFS", "cifs": "SMB", "smb3": "SMB", "smbfs": "SMB", "afpfs": "AFP", "9p": "9P (shared with a host)",
    "virtiofs": "virtiofs (shared with a host)", "ceph": "CephFS", "lustre": "Lustre", "gpfs": "GPFS", "beegfs": "BeeGFS",
    "glusterfs": "GlusterFS", "fuse.glusterfs": "GlusterFS", "fuse.sshfs": "sshfs", "macfuse_sshfs": "sshfs",
    "fuse.rclone": "rclone mount", "fuse.s3fs": "s3fs", "fuse.gcsfuse": "Cloud Storage FUSE", "fuse.goofys": "goofys",
    "fuse.drive": "Google Drive", "fuse.drivefs": "Google Drive", "fuse.google-drive-ocamlfuse": "Google Drive",
    "webdav": "WebDAV", "fuse.davfs": "WebDAV", "davfs": "WebDAV", "prl_fs": "Parallels shared folder",
    "vboxsf": "VirtualBox shared folder", "fuse.vmhgfs-fuse": "VMware shared folder", "fakeowner": "Docker shared folder",
    "grpcfuse": "Docker shared folder",
}  # fmt: skip
LOCAL_FUSE = {"fuseblk", "fuse.ntfs-3g", "fuse.exfat", "fuse.overlayfs", "fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.mergerfs"}


@dataclass(frozen=True)
class Mount:
    """Where a path is mounted. kind: local, memory, overlay, network or fuse; name: as a person calls it."""

    point: str
    filesystem: str
    source: str
    kind: str
    name: str

    @property
    def local(self) -> bool:
        return self.kind in ("local", "memory", "overlay")


@dataclass(frozen=True)
class Speed:
    """Median seconds to open a file and read its first block; MB a second of the largest one; files looked at."""

    latency: float
    megabytes: float
    files: int


def describe(path: str | os.PathLike) -> Mount:
    """The mount that a path (or the nearest folder above it that exists) lies on."""
    real = os.path.realpath(path)
    while not os.path.exists(real):
        real = os.path.dirname(real)
    mounts = _linux_mounts() if sys.platform.startswith("linux") else _bsd_mounts()
    best = max((m for m in mounts if _below(real, m[0])), key=lambda m: len(m[0]), default=("/", "unknown", ""))
    return classify(*best)


def classify(point: str, filesystem: str, source: str) -> Mount:
    """Name a mount by its file system type and what it shows."""
    fs, words = filesystem.lower(), f"{source} {point}".lower()
    if fs in NETWORK:
        kind, name = "network", NETWORK[fs]
    elif fs.startswith(("fuse", "macfuse", "osxfuse")) and fs not in LOCAL_FUSE:
        kind, name = "fuse", fs
        for word, called in (
            ("drive", "Google Drive"),
            ("sshfs", "sshfs"),
            ("s3", "S3 over FUSE"),
            ("gcs", "Cloud Storage FUSE"),
            ("rclone", "rclone mount"),
        ):
            if word in words or word in fs:
                name = called
                break
    elif fs in ("tmpfs", "ramfs"):
        kind, name = "memory", "memory disk"
    elif fs in ("overlay", "aufs"):
        kind, name = "overlay", "container disk"
    else:
        kind, name = "local", f"local disk ({filesystem})"
    return Mount(point, filesystem, source, kind, name)


def free_bytes(path: str | os.PathLike) -> int:
    """Bytes that this user may still write where a path lies, or will lie."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def read_threads(path: str | os.PathLike) -> int:
    """How many reads to keep in flight: many where each waits for a network, few where the processor is the limit."""
    return 8 if describe(path).local else 64


def probe(
    paths: Sequence[str | os.PathLike], seconds: float = 2.0, drop: bool = False, block: int = 64 << 10, most: int = 64 << 20
) -> Speed | None:
    """Measure up to 32 files, for `seconds` at most; None when none can be read.

    With `drop` what the system holds of them in memory is let go first (Linux), so that the medium answers.
    """
    latencies: list[float] = []
    best = 0.0
    end = time.perf_counter() + seconds
    for path in list(paths)[:32]:
        if time.perf_counter() > end and latencies:
            break
        try:
            begin = time.perf_counter()
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if drop and hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                os.read(file, block)
                latencies.append(time.perf_counter() - begin)
                start, size = time.perf_counter(), 0
                while size < most and time.perf_counter() < end and (part := os.read(file, 1 << 20)):
                    size += len(part)
                if size >= 1 << 20:
                    best = max(best, size / 1e6 / max(time.perf_counter() - start, 1e-9))
            finally:
                os.close(file)
        except OSError:
            continue
    if not latencies:
        return None
    return Speed(sorted(latencies)[len(latencies) // 2], best, len(latencies))


def _below(path: str, point: str) -> bool:
    return point == "/" or path == point or path.startswith(point.rstrip("/") + "/")


def _linux_mounts() -> list[tuple[str, str, str]]:
    """(mount point, type, source) from /proc/self/mountinfo, https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html"""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return [parse_mountinfo(line) for line in file]
    except OSError:
        return []


def parse_mountinfo(line: str) -> tuple[str, str, str]:
    """(mount point, type, source) of one line; the octal escapes of spaces and such undone."""
    left, _, right = line.partition(" - ")
    fields = right.split()
    return _plain(left.split()[4]), fields[0], _plain(fields[1]) if len(fields) > 1 else ""


def _plain(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _bsd_mounts() -> list[tuple[str, str, str]]:
    """The same from `mount` on macOS: `source on /point (type, options)`."""
    try:
        text = subprocess.run(["/sbin/mount"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [m for line in text.splitlines() if (m := parse_mount(line)) is not None]


def parse_mount(line: str) -> tuple[str, str, str] | None:
    """(mount point, type, source) of one line of macOS's `mount`."""
    source, on, rest = line.partition(" on ")
    point, bracket, options = rest.rpartition(" (")
    return (point, options.split(",")[0].strip(" )"), source) if on and bracket else None
