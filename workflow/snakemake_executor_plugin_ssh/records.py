"""What the book is made of: jobs, hosts, and what there is to tell about them."""

from dataclasses import dataclass, field
from typing import Protocol

from .admission import Need, Room
from .attempts import Attempt


class Keeper(Protocol):
    """What keeps attempts over the controller's end."""

    def write(self, attempt: Attempt) -> None: ...

    def remove(self, token: str) -> None: ...


@dataclass(frozen=True)
class Event:
    """Something to tell about a job: started, finished, failed, lost (its host, it starts elsewhere), impossible."""

    kind: str
    job: str
    host: str = ""
    token: str = ""
    text: str = ""
    status: dict = field(default_factory=dict)

    def how(self) -> str:
        """Where and how it ended, to go on a sentence with."""
        rc = self.status.get("rc")
        how = self.text or (f"signal {-rc}" if rc is not None and rc < 0 else f"exit code {rc}")
        return f" on host {self.host}: {how}" if self.host else f": {how}"


@dataclass
class Entry:
    """A job in the book. `blockers`: earlier attempts that must have ended before it may start."""

    need: Need
    spec: str = ""
    name: str = ""
    token: str | None = None
    losses: int = 0
    blockers: set[str] = field(default_factory=set)


@dataclass
class HostState:
    """link: connecting, up, down or refused (with `reason`: not in this run any more)."""

    name: str
    contact: float
    room: Room | None = None
    link: str = "connecting"
    reason: str = "no connection yet"
    rest_until: float = 0.0
    attempts: dict[str, Attempt] = field(default_factory=dict)
    forget: set[str] = field(default_factory=set)

    def gone(self, now: float, limit: float | None) -> bool:
        """Not reached for so long that what it still runs can hand nothing in."""
        return self.link != "up" and limit is not None and now - self.contact >= limit

    def could(self, need: Need, now: float, limit: float | None) -> bool:
        """Whether a job may run here, now or later. A host that has not answered yet may be of any size."""
        if self.link == "refused" or self.gone(now, limit):
            return False
        return self.room.could(need) if self.room is not None else need.host in (None, self.name)

    def opened(self, size: dict[str, int]) -> Room:
        """It has answered: its room, with what it is known to run taken."""
        if self.room is None:
            self.room = Room(self.name, size["cores"], size["mem_mb"], size["gpu"])
            for attempt in self.attempts.values():
                attempt.gpus = self.room.take(attempt.need, attempt.gpus or None)
        self.link, self.reason, self.room.open = "up", "", True
        return self.room

    def close(self, link: str, reason: str) -> None:
        """Nothing more is started here."""
        self.link, self.reason = link, reason
        if self.room is not None:
            self.room.open = False

    def place(self, attempt: Attempt) -> None:
        """On this host's page, with its room taken; once."""
        if attempt.token not in self.attempts:
            self.attempts[attempt.token] = attempt
            if self.room is not None:
                attempt.gpus = self.room.take(attempt.need, attempt.gpus or None)

    def take_off(self, attempt: Attempt) -> None:
        """It is here no more."""
        del self.attempts[attempt.token]
        if self.room is not None:
            self.room.give_back(attempt.need, attempt.gpus)

    def request(self) -> dict[str, list]:
        """Attempts to launch, tokens to cancel, watch and forget."""
        going = list(self.attempts.values())
        return {
            "launch": [attempt for attempt in going if attempt.stage == "new" and not attempt.revoked],
            "cancel": [attempt.token for attempt in going if attempt.revoked],
            "watch": [attempt.token for attempt in going],
            "forget": sorted(self.forget),
        }
