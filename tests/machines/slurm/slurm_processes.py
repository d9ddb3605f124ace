"""Processes of a test cluster: found by their parents and their environment, and ended so that none is missed."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def wait_for(there: Callable[[], object], seconds: float, every: float = 0.2) -> bool:
    """Whether it came true within so many seconds."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def free_ports(count: int) -> Sequence[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def family(marks: Iterable[Iterable[str]], files: Collection[Path] = ()) -> list[int]:
    """Pids of the processes whose environment has all texts of one of `marks`, or that hold one of `files` open, and of all below them."""
    wanted = [{text.encode() for text in mark} for mark in marks]
    held = {str(file) for file in files}
    parent_of: dict[int, int] = {}
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] in "ZX":
                continue
            parent_of[int(entry.name)] = int(fields[1])
            told = set((entry / "environ").read_bytes().split(b"\0"))
            if any(mark <= told for mark in wanted) or (held and held & _open_files(entry)):
                found.add(int(entry.name))
    while more := {pid for pid, parent in parent_of.items() if parent in found} - found:
        found |= more
    return sorted(found)


def _open_files(entry: Path) -> set[str]:
    links: set[str] = set()
    for handle in (entry / "fd").iterdir():
        with suppress(OSError):
            links.add(os.readlink(handle))
    return links


def end_all(alive: Callable[[], Iterable[int]]) -> None:
    """Kill processes that may start others meanwhile: all are frozen until no new one comes, then killed. Raises RuntimeError when
    some stay."""

    def send(pids: Iterable[int], number: int) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def gone() -> bool:
        frozen: set[int] = set()
        while new := set(alive()) - frozen:
            send(sorted(new), signal.SIGSTOP)
            frozen |= new
        send(sorted(frozen), signal.SIGKILL)
        return not frozen

    if not wait_for(gone, 30):
        raise RuntimeError(f"these processes cannot be killed: {alive()}")
