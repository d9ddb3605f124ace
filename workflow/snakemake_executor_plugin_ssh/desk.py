"""The executor as links see it: what goes to a host with a job, and where its log comes to."""

import re
from pathlib import Path
from typing import Any, Protocol

from .attempts import Attempt
from .book import Book
from .manifest import Manifest
from .settings import ExecutorSettings

_GRACE = 5.0  # seconds between TERM and KILL for a job that is cancelled


class Office(Protocol):
    """What a desk asks of the executor that it stands in."""

    lock_: Any
    book: Book
    home: Path

    def command(self, attempt: Attempt) -> str: ...
    def envvars(self) -> dict[str, str]: ...
    def note(self, text: str, warning: bool = False) -> None: ...
    def stir(self) -> None: ...
    def broken(self, problem: Exception) -> None: ...


class ExecutorDesk:
    """`directory`: where jobs run on a shared filesystem; None: each in a copy of the sources (`manifest`). `lock` is the book's, not the
    base class's."""

    def __init__(self, executor: Office, settings: ExecutorSettings, directory: str | None, manifest: Manifest | None, shared: bool):
        self._executor, self.lock, self.book = executor, executor.lock_, executor.book
        self.note, self.stir, self.broken = executor.note, executor.stir, executor.broken
        self._same = {
            "directory": directory,
            "version": manifest.version if manifest else None,
            "keep": settings.keep,
            "hold": "all" if shared else "uploader",
            "log_limit": int(settings.max_log_mb * 1e6),
            "grace": _GRACE,
        }

    def payload(self, attempt: Attempt) -> dict[str, Any]:
        """Everything a host needs to start a job. Only here are the values of environment variables: they travel in the connection and
        are kept in memory, on this side and that."""
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, attempt.gpus))} if attempt.need.gpu else {}
        environment = {**self._executor.envvars(), **visible}
        return {**self._same, "token": attempt.token, "command": self._executor.command(attempt), "environment": environment}

    def log_file(self, attempt: Attempt) -> Path:
        return self._executor.home / "logs" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', attempt.name)[:80]}-{attempt.token}.log"
