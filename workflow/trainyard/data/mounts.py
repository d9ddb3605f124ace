"""What kind of storage a path lies on: found from the kernel's mount table, never from the path's name."""

import errno
import os
import re
import subprocess
import sys
from dataclasses import dataclass

NETWORK = {
    "nfs": "NFS", "nfs4": "NFS", "cifs": "SMB", "smb3": "SMB", "smbfs": "SMB", "afpfs": "AFP", "afs": "AFS",
    "9p": "9P (shared with a host)", "virtiofs": "virtiofs (shared with a host)", "ceph": "CephFS", "lustre": "Lustre", "gpfs": "GPFS",
    "beegfs": "BeeGFS", "wekafs": "WekaFS", "glusterfs": "GlusterFS", "fuse.glusterfs": "GlusterFS", "fuse.sshfs": "sshfs",
    "macfuse_sshfs": "sshfs", "fuse.rclone": "rclone mount", "fuse.s3fs": "S3 (s3fs)", "fuse.goofys": "S3 (goofys)",
    "fuse.geesefs": "S3 (geesefs)", "fuse.mountpoint-s3": "S3 (mountpoint-s3)", "fuse.gcsfuse": "Cloud Storage (gcsfuse)",
    "fuse.blobfuse": "Azure Blob (blobfuse)", "fuse.blobfuse2": "Azure Blob (blobfuse)", "fuse.juicefs": "JuiceFS",
    "fuse.ceph-fuse": "CephFS", "fuse.gvfsd-fuse": "GNOME network folder", "fuse.drive": "Google Drive", "fuse.drivefs": "Google Drive",
    "fuse.google-drive-ocamlfuse": "Google Drive", "dfsfuse_dfs": "Google Drive", "webdav": "WebDAV", "fuse.davfs": "WebDAV",
    "fuse.davfs2": "WebDAV", "davfs": "WebDAV", "prl_fs": "Parallels shared folder", "vboxsf": "VirtualBox shared folder",
    "fuse.vmhgfs-fuse": "VMware shared folder", "fakeowner": "Docker shared folder", "grpcfuse": "Docker shared folder",
}  # fmt: skip
LOCAL_FUSE = {"fuseblk", "fuse.ntfs-3g", "fuse.exfat", "fuse.overlayfs", "fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.mergerfs"}
# What a FUSE mount without a type of its own calls itself, in its source.
FUSE_SOURCES = (
    (r"sshfs", "sshfs"),
    (r"^drive$|drivefs|dfsfuse|google.?drive|^gdrive", "Google Drive"),
    (r"^(s3fs|goofys|geesefs|mountpoint-s3|s3:)|^s3$", "S3 over FUSE"),
    (r"gcsfuse|^gs:", "Cloud Storage (gcsfuse)"),
    (r"blobfuse", "Azure Blob (blobfuse)"),
    (r"rclone", "rclone mount"),
)


@dataclass(frozen=True)
class Mount:
    """Where a path is mounted. kind: local, memory, overlay, network or fuse; name: as a person calls it.

    trouble: why it does not answer, such as "Transport endpoint is not connected"; else empty.
    """

    point: str
    filesystem: str
    source: str
    kind: str
    name: str
    trouble: str = ""

    @property
    def local(self) -> bool:
        return self.kind in ("local", "memory", "overlay")

    @property
    def words(self) -> str:
        """The name, and for what is far away where it comes from, without user names and passwords."""
        if self.local or not self.source or self.source == self.filesystem:
            return self.name
        place = re.sub(r"^(//)?[^/@]*@", r"\1", self.source)
        return f"{self.name} ({place})"


def describe(path: str | os.PathLike) -> Mount:
    """The mount that a path (or the nearest folder above it that exists) lies on."""
    real, trouble = os.path.realpath(path), ""
    while True:
        try:
            os.stat(real)
            break
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) or real == os.path.dirname(real):
                trouble = error.strerror or type(error).__name__  # a mount whose server is gone answers with an error of its own
                break
            real = os.path.dirname(real)
    if sys.platform.startswith("linux"):
        mount = _by_number(real) or _by_prefix(real, [row[1:] for row in _linux_mounts()])
    else:
        mount = _by_prefix(real, _bsd_mounts())
    point, filesystem, source = mount
    return classify(point, filesystem, source, trouble)


def classify(point: str, filesystem: str, source: str, trouble: str = "") -> Mount:
    """Name a mount by its file system type, and a FUSE mount without a type of its own by its source."""
    fs = filesystem.lower()
    if fs == "nfs" and source.lower().startswith("fuse-t"):
        kind, name = "fuse", _fuse_name(fs, source)  # FUSE-T on macOS shows its mounts as NFS
    elif fs in NETWORK:
        kind, name = "network", NETWORK[fs]
    elif fs.startswith(("fuse", "macfuse", "osxfuse")) and fs not in LOCAL_FUSE:
        kind, name = "fuse", _fuse_name(fs, source)
    elif fs in ("tmpfs", "ramfs"):
        kind, name = "memory", "memory disk"
    elif fs in ("overlay", "aufs"):
        kind, name = "overlay", "container disk"
    else:
        kind, name = "local", f"local disk ({filesystem})"
    return Mount(point, filesystem, source, kind, name, trouble)


def _fuse_name(filesystem: str, source: str) -> str:
    found = (called for pattern, called in FUSE_SOURCES if re.search(pattern, source.lower()))
    return next(found, f"FUSE mount of type {filesystem}" if "." in filesystem else "FUSE mount")


def _by_number(path: str) -> tuple[str, str, str] | None:
    """(mount point, type, source) by the mount's number, which the kernel tells of an open handle: right even where mounts hide each
    other. O_PATH opens nothing on the other side."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as file:
            number = next((int(line.split()[1]) for line in file if line.startswith("mnt_id:")), None)
    except OSError:
        return None
    finally:
        os.close(handle)
    return next((row[1:] for row in _linux_mounts() if row[0] == number), None)


def _by_prefix(path: str, mounts: list[tuple[str, str, str]]) -> tuple[str, str, str]:
    """The deepest mount above a path; of two on one point the later, which hides the other."""
    best = ("/", "unknown", "")
    for mount in mounts:
        point = mount[0]
        below = point == "/" or path == point or path.startswith(point.rstrip("/") + "/")
        if below and (best[1] == "unknown" or len(point) >= len(best[0])):
            best = mount
    return best


def _linux_mounts() -> list[tuple[int, str, str, str]]:
    """(number, mount point, type, source) from /proc/self/mountinfo, https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html"""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return [parse_mountinfo(line) for line in file]
    except OSError:
        return []


def parse_mountinfo(line: str) -> tuple[int, str, str, str]:
    """(number, mount point, type, source) of one line; the octal escapes of spaces and such undone."""
    left, _, right = line.partition(" - ")
    fields, before = right.split(), left.split()
    return int(before[0]), _plain(before[4]), fields[0], _plain(fields[1]) if len(fields) > 1 else ""


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


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
