"""One start of a job on a host: its record, and the journal of those that may still be running."""

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .admission import Need


def new_token() -> str:
    """Name of an attempt, never used before."""
    return secrets.token_hex(12)


@dataclass
class Attempt:
    """`job` says which job it is, `spec` what exactly it runs. `revoked`: its result must not count, it is to be ended."""

    token: str
    job: str
    host: str
    need: Need
    spec: str = ""
    name: str = ""
    gpus: tuple[int, ...] = field(default_factory=tuple)
    revoked: bool = False
    # new: to be launched; kept: of another life of the controller, nobody has asked for its job yet; asked: the host may know it;
    # runs: the host knows it
    stage: str = "new"


class Journal:
    """A small file for each attempt that may be running, written before it starts and removed when its result has been taken:
    what a controller that was killed must know when it comes back. Nothing secret is in it."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, attempt: Attempt) -> None:
        """OSError: it could not be written, so the attempt must not start."""
        path = self._path(attempt.token)
        partial = path.with_suffix(".tmp")
        content = asdict(attempt)
        del content["stage"]
        try:
            with open(partial, "w") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as problem:
            partial.unlink(missing_ok=True)
            problem.filename = problem.filename or str(path)  # a full disk says no name
            raise

    def remove(self, token: str) -> None:
        self._path(token).unlink(missing_ok=True)

    def read(self) -> Iterator[Attempt]:
        """All attempts that were not settled; one that cannot be read was never started."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                content = json.loads(path.read_text())
                need = Need(**content.pop("need"))
                yield Attempt(**{**content, "need": need, "gpus": tuple(content["gpus"])}, stage="kept")
            except (ValueError, TypeError, KeyError):
                path.unlink()

    def _path(self, token: str) -> Path:
        return self._folder / f"{token}.json"


class NoJournal:
    """For books that need not survive."""

    def write(self, attempt: Attempt) -> None: ...

    def remove(self, token: str) -> None: ...
