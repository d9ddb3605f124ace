"""The connection to one host: kept, made again when it ends, and the only place from which the host is told anything."""

import json
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from snakemake_interface_common.exceptions import WorkflowError

from .attempts import Attempt
from .book import Book
from .hosts import Host
from .manifest import Manifest
from .openssh import OTHER_PYTHON, OpenSSH, Refused, Unreachable, complaint, local_command, preamble
from .session import Session
from .skew import check_time

_RETRY_MOST = 15.0
_END_REVOKED = 60.0


class Desk(Protocol):
    """What links share with the executor. `lock` guards the book."""

    lock: threading.RLock
    book: Book

    def payload(self, attempt: Attempt) -> dict[str, Any]: ...

    def log_file(self, attempt: Attempt) -> Path: ...

    def note(self, text: str, warning: bool = False) -> None: ...

    def stir(self) -> None: ...

    def broken(self, problem: Exception) -> None: ...


@dataclass(frozen=True)
class Terms:
    """What holds for all hosts: lease in seconds (None: without end), seconds of a quiet wait, packages a host must have, whether its
    time of day matters (jobs sign what they ask of a storage)."""

    project: str
    lease: float | None
    poll: float
    packages: dict[str, str | None]
    forward: tuple[int, ...]
    manifest: Manifest | None
    prepare: Callable[[Host], str]
    signs: bool = False


class Link(threading.Thread):
    """Thread of one host."""

    def __init__(self, host: Host, desk: Desk, terms: Terms, ssh: OpenSSH):
        super().__init__(name=f"ssh {host.name}", daemon=True)
        self.host, self._desk, self._terms, self._ssh = host, desk, terms, ssh
        self._session: Session | None = None
        self._over, self._awake = threading.Event(), threading.Event()
        self._clock: float | None = None
        self._silent = False

    def wake(self) -> None:
        """There is something to tell the host."""
        if session := self._session:
            session.wake()

    def stop(self) -> None:
        """End the connection after a last word; jobs go on."""
        self._over.set()
        self._awake.set()
        self.wake()

    def run(self) -> None:
        pause = 1.0
        while not self._over.is_set():
            try:
                with self._connected() as session:
                    self._open(session)
                    pause = 1.0
                    while not self._over.is_set():
                        self._round(session)
                    self._round(session, wait=0)
            except Refused as problem:
                self._tell(self._desk.book.refused, str(problem))
                self._desk.note(f"host {self.host.name} cannot be used: {problem}", warning=True)
                return
            except WorkflowError as problem:
                self._tell(self._desk.book.refused, str(problem))
                return
            except Unreachable as problem:
                self._tell(self._desk.book.lost, str(problem))
                if not self._silent and not self._over.is_set():
                    self._desk.note(f"host {self.host.name} cannot be reached ({problem}); trying again", warning=True)
                self._silent = True
            except Exception as problem:
                self._desk.broken(problem)
                return
            self._awake.wait(pause)
            pause = min(2 * pause, _RETRY_MOST, self._ssh.silence)

    def _tell(self, change: Callable[..., None], *what: Any) -> None:
        """Write into the book about this host."""
        with self._desk.lock:
            change(self.host.name, *what)
        self._desk.stir()

    @contextmanager
    def _connected(self) -> Iterator[Session]:
        terms = self._terms
        hello = {"project": terms.project, "workdir": self.host.workdir, "packages": terms.packages, "local": self.host.local}
        hello["version"] = terms.manifest.version if terms.manifest else ""
        self._ssh.forget(self.host)
        command = local_command() if self.host.local else self._ssh.agent(self.host)
        try:
            session = Session(command, preamble(self.host.python or "", json.dumps(hello)))
        except FileNotFoundError:
            raise Refused("there is no ssh on this machine; install the OpenSSH client") from None
        self._session = session
        try:
            yield session
        finally:
            self._session = None
            session.close()

    def _open(self, session: Session) -> None:
        """All that must be true of a host before it gets work: our Python and packages, nothing running that was given up, the ports, the
        sources. In this order: what was given up could hand in results through the ports."""
        try:
            greeting, _ = session.exchange(None, timeout=45)
        except Unreachable as silence:
            code, text = session.said()
            problem = complaint(self.host, code, text, self._ssh.by_hand(self.host), self._terms.prepare(self.host))
            raise (silence if code is None else problem) from None
        if "clock" not in greeting:
            self._disappointed(greeting)
        if problems := greeting["problems"]:
            more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise Refused(f"its environment differs: {', '.join(problems[:5])}{more}; make it equal with: {self._terms.prepare(self.host)}")
        if self._terms.signs:
            check_time(greeting["time"])
        self._clock = greeting["clock"]
        with self._desk.lock:
            for token in greeting["jobs"]:
                self._desk.book.stray(self.host.name, token)
        self._end_revoked(session)
        if not self.host.local:
            for port in self._terms.forward:
                self._forward(port)
        if self._terms.manifest and not greeting["sources"]:
            self._send_sources(session, self._terms.manifest)
        self._tell(self._desk.book.opened, self.host.size(greeting), time.monotonic())
        if self._silent:
            self._desk.note(f"host {self.host.name} is back")
        self._silent = False

    def _disappointed(self, greeting: dict[str, Any]) -> None:
        if "python" in greeting:
            raise complaint(self.host, OTHER_PYTHON, greeting["python"], "", self._terms.prepare(self.host))
        problem = greeting.get("failed", "an empty answer")
        if problem.startswith(("PermissionError", "NotADirectoryError", "FileExistsError")):
            raise Refused(f"its working folder cannot be used: {problem}")
        raise Unreachable(problem)

    def _end_revoked(self, session: Session) -> None:
        until = time.monotonic() + _END_REVOKED
        while True:
            with self._desk.lock:
                left = self._desk.book.revoked_on(self.host.name)
            if not left:
                return
            if time.monotonic() > until:
                raise Unreachable(f"{left} jobs that were given up do not end")
            self._round(session, wait=1, starting=True)

    def _forward(self, port: int) -> None:
        command = self._ssh.forward(self.host, port)
        try:
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, start_new_session=True)
        except subprocess.TimeoutExpired:
            raise Unreachable(f"port {port} could not be forwarded within 30 s") from None
        if done.returncode:
            raise Unreachable(f"port {port} could not be forwarded; is it taken there? {done.stderr.strip()}")

    def _send_sources(self, session: Session, manifest: Manifest) -> None:
        reply, _ = self._ask(session, {"manifest": manifest.entries})
        missing = reply["missing"]
        if missing:
            self._desk.note(f"host {self.host.name}: sending {len(missing)} source files")
        for pieces, data in manifest.pieces(missing):
            self._ask(session, {"pieces": pieces}, zlib.compress(data, 1))
        self._ask(session, {"install": True})

    def _ask(
        self, session: Session, request: dict[str, Any], raw: bytes = b"", wait: float = 0, extend: bool = True
    ) -> tuple[dict[str, Any], bytes]:
        """Every question extends the lease, by what the host's own clock last said to us."""
        lease = {"seen": self._clock, "seconds": self._terms.lease} if extend else None
        reply, body = session.exchange({**request, "lease": lease, "wait": wait}, raw, wait + 1.25 * self._ssh.silence)
        if "failed" in reply:
            raise Unreachable(reply["failed"])
        self._clock = reply["clock"]
        return reply, body

    def _round(self, session: Session, wait: float | None = None, starting: bool = False) -> None:
        """Tell the host what it is to do, hear what has become of its jobs. `starting`: only what is to end; nothing is launched and no
        lease extended, which would wake what is held because it was given up."""
        session.drop_wakes()
        with self._desk.lock:
            plan = self._desk.book.request(self.host.name)
            if starting:
                plan["launch"] = []
            jobs = [self._desk.payload(attempt) for attempt in plan["launch"]]
            known = {attempt.token: attempt for attempt in self._desk.book.hosts[self.host.name].attempts.values()}
        busy = plan["launch"] or any(known[token].stage in ("new", "asked") for token in plan["watch"])
        wait = wait if wait is not None else 0 if busy else 1 if plan["cancel"] else self._terms.poll
        reply, _ = self._ask(session, {**plan, "launch": jobs}, wait=wait, extend=not starting)
        for token, status in reply["jobs"].items():
            if status["state"] == "ended" and not known[token].revoked and known[token].stage != "kept":
                status["log"] = self._fetch_log(session, known[token], status)
        self._tell(self._desk.book.replied, plan, reply, time.monotonic())

    def _fetch_log(self, session: Session, attempt: Attempt, status: dict[str, Any]) -> str:
        """The whole log of what failed, the end of what did not; returns the file's name, empty when it could not be written."""
        path = self._desk.log_file(attempt)
        try:
            with open(path, "wb") as file:
                if status["rc"] == 0:
                    file.write(status["tail"].encode())
                    return str(path)
                while True:
                    _, body = self._ask(session, {"log": {"token": attempt.token, "offset": file.tell()}})
                    if not (piece := zlib.decompress(body)):
                        return str(path)
                    file.write(piece)
        except OSError as problem:
            self._desk.note(f"the log of {attempt.name} could not be written: {problem.strerror}: {path}", warning=True)
            return ""
