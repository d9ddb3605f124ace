"""A real FUSE mount for tests, spoken straight to /dev/fuse: one flat folder of files, each open and read delayed.

Needs root and /dev/fuse. The protocol: https://github.com/torvalds/linux/blob/master/include/uapi/linux/fuse.h
Run as a program: fuse_mount.py MOUNTPOINT TYPE SOURCE SECONDS FILES BYTES, or … SECONDS FOLDER: the files of a real folder, every open
told on stdout.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
import time
from pathlib import Path

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = (
    1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 28, 29, 36, 42,
)  # fmt: skip
MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


def can_mount() -> str:
    """Empty where a FUSE file system can be mounted, else why not."""
    if not sys.platform.startswith("linux") or not os.path.exists("/dev/fuse"):
        return "no /dev/fuse on this machine"
    return "" if os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK) else "mounting needs root"


def unmount(point: Path) -> None:
    libc.umount2(os.fsencode(point), MNT_DETACH)


class SlowFolder:
    """Node 1 is the folder; nodes from 2 are the files 0.bin, 1.bin, …"""

    def __init__(self, seconds: float, files: int, size: int):
        self.seconds, self.files, self.size = seconds, files, size

    def answer(self, opcode: int, node: int, body: bytes) -> bytes | int:
        """The answer's body, or an errno."""
        if opcode == INIT:
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 20, 0, 16, 12, 1 << 17, 1, 0, 0, 0)
        if opcode == LOOKUP:
            name = body.rstrip(b"\0").decode()
            number = int(name[:-4]) if name.endswith(".bin") and name[:-4].isdigit() else self.files
            return (
                errno.ENOENT if number >= self.files else struct.pack("<QQQQII", number + 2, 0, 1, 1, 0, 0) + self._attributes(number + 2)
            )
        if opcode == GETATTR:
            return struct.pack("<QII", 1, 0, 0) + self._attributes(node)
        if opcode in (OPEN, OPENDIR):
            if opcode == OPEN:
                time.sleep(self.seconds)
            return struct.pack("<QII", 0, 0, 0)
        if opcode == READ:
            time.sleep(self.seconds)
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(max(0, min(size, self.size - offset)))
        if opcode == STATFS:
            return struct.pack("<QQQQQIIII24x", 1000, 500, 500, 10, 5, 4096, 255, 4096, 0)
        return b"" if opcode in (RELEASE, RELEASEDIR, FLUSH, READDIR) else errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        folder = node == 1
        mode = stat.S_IFDIR | 0o755 if folder else stat.S_IFREG | 0o644
        return struct.pack(
            "<QQQQQQIIIIIIIIII", node, 0 if folder else self.size, 1, *[1_700_000_000] * 3, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0
        )


class RealFolder(SlowFolder):
    """The files of a folder, as they are at the moment."""

    def __init__(self, seconds: float, folder: str):
        super().__init__(seconds, 0, 0)
        self.folder, self.names = folder, [""]

    def answer(self, opcode: int, node: int, body: bytes) -> bytes | int:
        if opcode == LOOKUP:
            name = os.fsdecode(body.rstrip(b"\0"))
            if not os.path.isfile(os.path.join(self.folder, name)):
                return errno.ENOENT
            if name not in self.names:
                self.names.append(name)
            node = self.names.index(name) + 1
            return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self._attributes(node)
        if opcode == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)  # never remembered: the folder may change
        if opcode == OPEN:
            print(f"open {self.names[node - 1]}", flush=True)
        if opcode == READDIR:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self._listed(offset, size)
        if opcode == READ:
            time.sleep(self.seconds)
            _, offset, size = struct.unpack_from("<QQI", body)
            with open(os.path.join(self.folder, self.names[node - 1]), "rb") as file:
                return os.pread(file.fileno(), size, offset)
        return super().answer(opcode, node, body)

    def _listed(self, offset: int, size: int) -> bytes:
        """Names from the one at `offset` on, in `size` bytes at most."""
        rows = b""
        for at, name in enumerate(sorted(os.listdir(os.fsencode(self.folder)))[offset:], offset + 1):
            row = struct.pack("<QQII", at, at, len(name), stat.S_IFREG >> 12) + name
            row += bytes(-len(row) % 8)
            if len(rows) + len(row) > size:
                break
            rows += row
        return rows

    def _attributes(self, node: int) -> bytes:
        if node == 1:
            return super()._attributes(node)
        status = os.stat(os.path.join(self.folder, self.names[node - 1]))
        seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
        return struct.pack(
            "<QQQQQQIIIIIIIIII", node, status.st_size, 1, *[seconds] * 3, *[nanoseconds] * 3, stat.S_IFREG | 0o644, 1, 0, 0, 0, 4096, 0
        )


def serve(point: str, kind: str, source: str, folder: SlowFolder) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(source.encode(), os.fsencode(point), kind.encode(), 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    while True:
        request = os.read(device, (1 << 17) + 4096)
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        answer = folder.answer(opcode, node, request[40:])
        body, error = (b"", -answer) if isinstance(answer, int) else (answer, 0)
        os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


if __name__ == "__main__":
    seconds, served = float(sys.argv[4]), sys.argv[5]
    serve(*sys.argv[1:4], RealFolder(seconds, served) if os.path.isdir(served) else SlowFolder(seconds, int(served), int(sys.argv[6])))
