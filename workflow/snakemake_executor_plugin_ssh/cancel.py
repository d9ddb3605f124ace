"""Ends jobs of a folder without a run: those that were cancelled while their host could not be reached, or all."""

import fcntl
import json
import os
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from .attempts import Attempt, Journal
from .book import Book
from .hosts import Host
from .link import Link, Terms
from .openssh import OpenSSH

_TRY_SECONDS = 30.0
_PAUSE = 10.0


def write_hosts(home: Path, hosts: list[Host], config: Path | None, project: str) -> None:
    """What a later cancel must know; nothing secret."""
    content = {"hosts": [asdict(host) for host in hosts], "config": str(config) if config else None, "project": project}
    partial = home / "hosts.tmp"
    partial.write_text(json.dumps(content))
    partial.replace(home / "hosts.json")


def lock_folder(home: Path, purpose: str) -> int | None:
    """The lock that says that somebody speaks to the hosts for this folder: its file descriptor, or None when it is taken."""
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    os.pwrite(lock, purpose.ljust(16).encode(), 0)
    return lock


class _Caller:
    """A desk without jobs of its own."""

    def __init__(self, book: Book, home: Path):
        self.lock, self.book, self._home = threading.RLock(), book, home
        self.ended = threading.Event()

    def payload(self, attempt: Attempt) -> dict[str, Any]:
        raise AssertionError("nothing is started here")

    def log_file(self, attempt: Attempt) -> Path:
        return self._home / "logs" / f"{attempt.token}.log"

    def note(self, text: str, warning: bool = False) -> None:
        print(time.strftime("%F %T"), text, flush=True)

    def broken(self, problem: Exception) -> None:
        print(f"{type(problem).__name__}: {problem}", flush=True)

    def stir(self) -> None:
        self.ended.set()


def cancel(folder: Path, everything: bool, hours: float, after: int | None = None) -> None:
    """Until all of it has ended, or so many hours have passed. Stops when a run begins in this folder: that does it itself.
    `after`: process that is to end first, the run that left this behind."""
    while after is not None and _lives(after):
        time.sleep(0.2)
    home = folder / ".snakemake" / "ssh"
    try:
        content = json.loads((home / "hosts.json").read_text())
    except OSError:
        raise WorkflowError(f"no jobs were started over ssh from {folder.absolute()}") from None
    hosts = {host["name"]: Host(**host) for host in content["hosts"]}
    until = time.monotonic() + hours * 3600
    while True:
        lock = lock_folder(home, "cancel")
        if lock is None:
            print("a run in this folder takes care of them")
            return
        left = _try(home, hosts, content, everything)
        os.close(lock)
        if not left:
            print("nothing is left")
            return
        if time.monotonic() > until:
            raise WorkflowError(f"{left} jobs may still be running on hosts that could not be reached")
        time.sleep(_PAUSE)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _try(home: Path, hosts: dict[str, Host], content: dict[str, Any], everything: bool) -> int:
    """One attempt at all hosts; returns how many jobs are left."""
    journal = Journal(home / "attempts")
    attempts = [attempt for attempt in journal.read() if (attempt.revoked or everything) and attempt.host in hosts]
    names = sorted({attempt.host for attempt in attempts})
    book = Book(names, None, journal, time.monotonic())
    for attempt in attempts:
        book.revoke(attempt)
    desk = _Caller(book, home)
    with tempfile.TemporaryDirectory(prefix="smk-ssh-") as sockets:
        ssh = OpenSSH(Path(content["config"]) if content["config"] else None, Path(sockets))
        terms = Terms(content["project"], None, 1.0, {}, (), None, lambda host: "")
        links = [Link(hosts[name], desk, terms, ssh) for name in names]
        for link in links:
            link.start()
        until = time.monotonic() + _TRY_SECONDS
        while time.monotonic() < until and any(link.is_alive() for link in links) and any(book.revoked_on(name) for name in names):
            desk.ended.wait(0.5)
            desk.ended.clear()
        for link in links:
            link.stop()
        for link in links:
            link.join(10)
    return sum(map(book.revoked_on, names))
