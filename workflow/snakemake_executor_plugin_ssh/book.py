"""The book: every job, its one attempt that counts, and every host. Decides what starts where, and what a host's answer means.

No input or output but the journal's, no clock, no threads: the caller says what was heard and when. That is what makes a result count
exactly once: an answer about a token that is not the current one of its job changes nothing but room.

Times are seconds of the controller's monotonic clock, which stands still while the controller sleeps."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from .admission import Need, Queue, Room
from .attempts import Attempt, new_token
from .reasons import why_nowhere
from .records import Entry, Event, HostState, Keeper

_LOSSES = 3
_REST = 60.0


class Book:
    """`limit`: seconds without contact after which a host's jobs are lost; None: never."""

    def __init__(self, hosts: list[str], limit: float | None, journal: Keeper, now: float, token: Callable[[], str] = new_token):
        self.hosts = {name: HostState(name, now) for name in hosts}
        self.jobs: dict[str, Entry] = {}
        self.events: list[Event] = []
        self._limit, self._journal, self._token = limit, journal, token
        self._queue = Queue()
        self._now = now
        # Hosts that have something new to be told.
        self.stirred: set[str] = set()

    # --- jobs

    def keep(self, attempt: Attempt) -> None:
        """An attempt of another life of the controller: it has its room, and waits for its job to be submitted."""
        self._place(attempt)

    def stray(self, host: str, token: str) -> None:
        """A host has an attempt that is in no book: it ends."""
        if token not in self.hosts[host].attempts:
            self._place(Attempt(token, "", host, Need(cores=0), revoked=True))

    def submit(self, job: str, need: Need, spec: str = "", name: str = "", earlier: Sequence[Attempt] = ()) -> Attempt | None:
        """A job to be done. `earlier`: attempts at it from another life of the controller. One with the same spec is taken over and
        returned; others are revoked, and it starts when they are known to have ended."""
        entry = self.jobs[job] = Entry(need, spec, name)
        taken = None
        for attempt in earlier:
            if taken is None and not attempt.revoked and attempt.spec == spec:
                taken, entry.token, attempt.stage = attempt, attempt.token, "asked"
                self._place(attempt)
            else:
                self.revoke(attempt)
                entry.blockers.add(attempt.token)
        if taken is None and not entry.blockers:
            self._enqueue(job)
        return taken

    def revoke(self, attempt: Attempt) -> None:
        """This attempt is to end and its result counts for nothing, from now on and in the next life of the controller."""
        attempt.revoked = True
        self._place(attempt)
        self.stirred.add(attempt.host)
        # Where it cannot be written the host hears of it all the same; only a controller killed before that would not know.
        with suppress(OSError):
            self._journal.write(attempt)

    def cancel_all(self) -> None:
        """Every attempt is revoked, every job forgotten."""
        self.jobs.clear()
        self._queue = Queue()
        for host in self.hosts.values():
            for attempt in list(host.attempts.values()):
                self.revoke(attempt)

    def settled(self, host: str, token: str) -> None:
        """The result of this attempt has been taken: the host may forget it."""
        self.hosts[host].forget.add(token)
        self._journal.remove(token)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    # --- hosts

    def opened(self, name: str, size: dict[str, int], now: float) -> None:
        """A host answered for the first time, or again."""
        self._fill([self._heard(name, now).opened(size)])

    def lost(self, name: str, reason: str) -> None:
        """The connection to a host ended, or could not be made: nothing is known about its jobs until there is one again."""
        self.hosts[name].close("down", reason)

    def refused(self, name: str, reason: str) -> None:
        """A host that cannot be used as it is."""
        self.hosts[name].close("refused", reason)

    def request(self, name: str) -> dict[str, list]:
        """What to tell a host now: attempts to launch, tokens to cancel, watch and forget."""
        return self.hosts[name].request()

    def kept_on(self, name: str) -> int:
        """How many attempts of an earlier life on a host nobody has asked for."""
        return sum(attempt.stage == "kept" and not attempt.revoked for attempt in self.hosts[name].attempts.values())

    def revoked_on(self, name: str) -> int:
        """How many attempts on a host are to end and have not said so."""
        return sum(attempt.revoked for attempt in self.hosts[name].attempts.values())

    def replied(self, name: str, request: dict[str, list], reply: dict[str, Any], now: float) -> None:
        """A host's answer to a request of ours."""
        host = self._heard(name, now)
        host.forget -= set(request["forget"])
        for token, problem in reply["launched"].items():
            if (attempt := host.attempts.get(token)) is None:
                continue
            if problem is None:
                self._runs(attempt)
            else:
                host.rest_until = now + _REST
                self._end(host, attempt, {"state": "ended", "rc": None, "reason": f"could not start: {problem}"})
        for token, status in reply["jobs"].items():
            if (attempt := host.attempts.get(token)) is None:
                continue
            if attempt.stage == "kept" and not attempt.revoked:
                if status["state"] != "running":
                    host.take_off(attempt)  # Its result waits on the host until its job is asked for.
            elif status["state"] == "running":
                self._runs(attempt)
            elif status["state"] == "ended" or attempt.revoked:
                self._end(host, attempt, status)
            elif attempt.stage == "runs":
                self._end(host, attempt, {"state": "ended", "rc": None, "reason": "the host does not know it any more"})
            else:
                attempt.stage = "new"  # The host never heard of it: it is launched with the next request.
        if host.room is not None:
            host.room.open = host.link == "up" and now >= host.rest_until
            self._fill([host.room])

    def stood_still(self, seconds: float) -> None:
        """The controller was stopped for so long, and heard nobody for that reason: no host is given up for it."""
        for host in self.hosts.values():
            host.contact += seconds

    def tick(self, now: float) -> None:
        """Time has passed: hosts are given up, jobs that can run nowhere are said so, rested hosts are used again."""
        self._now = now
        for host in self.hosts.values():
            if host.gone(now, self._limit):
                for attempt in list(host.attempts.values()):
                    self._lose(host, attempt)
            elif host.link == "up" and host.room is not None and not host.room.open and now >= host.rest_until:
                host.room.open = True
                self._fill([host.room])
        for need in self._queue.needs():
            if not any(host.could(need, now, self._limit) for host in self.hosts.values()):
                reason = why_nowhere(self.hosts, need, now, self._limit)
                for job in self._queue.waiting(need):
                    self._queue.remove(need, job)
                    del self.jobs[job]
                    self.events.append(Event("impossible", job, text=reason))

    # --- inside

    def _heard(self, name: str, now: float) -> HostState:
        host = self.hosts[name]
        host.contact = max(host.contact, now)
        self._now = max(self._now, now)
        return host

    def _enqueue(self, job: str, first: bool = False) -> None:
        need = self.jobs[job].need
        self._queue.add(need, job, first)
        self._start(need, [host.room for host in self.hosts.values() if host.room is not None and host.room.open])

    def _fill(self, rooms: list[Room]) -> None:
        for need in self._queue.needs():
            if not any(room.open and room.used_cores < room.cores for room in rooms):
                return
            self._start(need, rooms)

    def _start(self, need: Need, rooms: list[Room]) -> None:
        while found := self._queue.next_for(need, rooms):
            job, room = found
            entry = self.jobs[job]
            attempt = Attempt(self._token(), job, room.name, need, entry.spec, entry.name)
            try:
                self._journal.write(attempt)
            except OSError as problem:
                del self.jobs[job]
                text = f"not started: its record could not be written on the controller: {problem.strerror}: {problem.filename}"
                self.events.append(Event("impossible", job, text=text))
                continue
            entry.token = attempt.token
            self._place(attempt)

    def _place(self, attempt: Attempt) -> None:
        """On its host's page, with its room taken; once."""
        host = self.hosts.setdefault(attempt.host, HostState(attempt.host, self._now, link="down", reason="it is not among the hosts"))
        self.stirred.add(attempt.host)
        host.place(attempt)

    def _runs(self, attempt: Attempt) -> None:
        first, attempt.stage = attempt.stage != "runs", "runs"
        if first and self._counts(attempt):
            self.events.append(Event("started", attempt.job, attempt.host, attempt.token))

    def _counts(self, attempt: Attempt) -> bool:
        entry = self.jobs.get(attempt.job)
        return entry is not None and entry.token == attempt.token and not attempt.revoked

    def _end(self, host: HostState, attempt: Attempt, status: dict) -> None:
        """It has ended, or never was, for certain."""
        host.take_off(attempt)
        if self._counts(attempt):
            del self.jobs[attempt.job]
            kind = "finished" if status.get("rc") == 0 else "failed"
            self.events.append(Event(kind, attempt.job, host.name, attempt.token, status.get("reason") or "", status))
        else:
            self.settled(host.name, attempt.token)
            self._unblock(attempt)

    def _lose(self, host: HostState, attempt: Attempt) -> None:
        """The host is given up. What it still runs can hand nothing in (its lease is over) and is ended when the host comes back."""
        counted = self._counts(attempt)
        if not attempt.revoked:
            self.revoke(attempt)
        self._unblock(attempt)
        if not counted:
            return
        entry = self.jobs[attempt.job]
        entry.token, entry.losses = None, entry.losses + 1
        if entry.losses >= _LOSSES:
            del self.jobs[attempt.job]
            self.events.append(Event("impossible", attempt.job, text=f"lost with its host {entry.losses} times, the last time {host.name}"))
            return
        self.events.append(Event("lost", attempt.job, host.name, attempt.token, host.reason))
        self._enqueue(attempt.job, first=True)

    def _unblock(self, attempt: Attempt) -> None:
        entry = self.jobs.get(attempt.job)
        if entry is not None and attempt.token in entry.blockers:
            entry.blockers.remove(attempt.token)
            if not entry.blockers and entry.token is None:
                self._enqueue(attempt.job)
