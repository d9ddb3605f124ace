"""Shell commands as jobs over the plugin's own links, book and agents, without Snakemake around them: a fault test in seconds."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from network import Network
from snakemake_executor_plugin_ssh.admission import Need
from snakemake_executor_plugin_ssh.attempts import Attempt, Journal
from snakemake_executor_plugin_ssh.book import Book
from snakemake_executor_plugin_ssh.hosts import Host
from snakemake_executor_plugin_ssh.lease import lease_seconds
from snakemake_executor_plugin_ssh.link import Link, Terms
from snakemake_executor_plugin_ssh.openssh import OpenSSH
from snakemake_executor_plugin_ssh.records import Event

SILENCE = 4.0  # seconds after which a cut link is noticed


def wait_for(true: Callable, seconds: float = 60, what: Callable[[], str] = lambda: ""):
    """The first true value of a function; fails when there is none in so many seconds, with what `what` says then."""
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, what() or f"{true} stayed false for {seconds} s"
        time.sleep(0.1)
    return found


def host_of(machine, **values) -> Host:
    """How the plugin sees a host of the test's network."""
    return Host(machine.name, **{"cores": 4, "python": sys.executable, "workdir": str(machine.home / "work"), **values})


class Desk:
    """`limit`: seconds until a host is given up. Everything that happened is in `events` and `notes`."""

    def __init__(self, network: Network, hosts: list[Host], limit: float | None = None, shared: bool = True, **terms):
        self.folder = network.folder / "controller"
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self.lock, self.notes, self.events = threading.RLock(), [], []
        self.journal = Journal(self.folder / "attempts")
        self.book = Book([host.name for host in hosts], limit, self.journal, time.monotonic())
        self.commands: dict[str, str] = {}
        self.directory, self.environment, self.log_limit = network.folder, {}, 1 << 20
        given = {"project": "test", "lease": lease_seconds(limit, 1, shared), "poll": 1.0, "packages": {}, "forward": (), "manifest": None}
        self.terms = Terms(**{**given, **terms}, prepare=lambda host: f"PREPARE {host.name}")
        self.hold = "all" if shared else "uploader"
        ssh = OpenSSH(network.config, network.folder, SILENCE)
        self.links = {host.name: Link(host, self, self.terms, ssh) for host in hosts}
        for link in self.links.values():
            link.start()

    def payload(self, attempt: Attempt) -> dict:
        job = {"token": attempt.token, "command": self.commands[attempt.job], "environment": self.environment, "keep": [], "grace": 2.0}
        version = self.terms.manifest.version if self.terms.manifest else None
        directory = None if version else str(self.directory)
        return {**job, "directory": directory, "version": version, "hold": self.hold, "log_limit": self.log_limit}

    def log_file(self, attempt: Attempt) -> Path:
        return self.folder / "logs" / f"{attempt.token}.log"

    def note(self, text: str, warning: bool = False) -> None:
        self.notes.append(text)

    def broken(self, problem: Exception) -> None:
        self.notes.append(f"broken: {problem!r}")

    def stir(self) -> None:
        with self.lock:
            stirred, self.book.stirred = self.book.stirred, set()
        for name in stirred & self.links.keys():
            self.links[name].wake()

    def submit(self, job: str, command: str, host: str | None = None, earlier: list[Attempt] = ()) -> None:
        self.commands[job] = command
        with self.lock:
            self.book.submit(job, Need(host=host), command, job, earlier)
        self.stir()

    def tick(self) -> list[Event]:
        with self.lock:
            self.book.tick(time.monotonic())
            self.events += self.book.events
            self.book.events = []
        self.stir()
        return self.events

    def wait(self, kind: str, job: str, seconds: float = 60) -> Event:
        """The first event of this kind about a job."""
        return wait_for(
            lambda: next((event for event in self.tick() if (event.kind, event.job) == (kind, job)), None),
            seconds,
            lambda: f"no '{kind}' of {job} in {seconds} s: {self.events}, {self.notes}",
        )

    def attempt(self, job: str) -> Attempt:
        with self.lock:
            token = self.book.jobs[job].token
            return next(a for host in self.book.hosts.values() for a in host.attempts.values() if a.token == token)

    def cancel(self) -> None:
        with self.lock:
            self.book.cancel_all()
        self.stir()

    def vanish(self) -> None:
        """As if the controller were killed: connections end, nothing is said, the journal stays."""
        for link in self.links.values():
            link._over.set()
            link._awake.set()
            if session := link._session:
                session._process.kill()
        for link in self.links.values():
            link.join(30)

    def close(self) -> None:
        for link in self.links.values():
            link.stop()
        for link in self.links.values():
            link.join(40)
