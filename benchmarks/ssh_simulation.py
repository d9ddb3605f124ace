#!/usr/bin/env python
"""The SSH executor's book on many simulated hosts: 10,000 jobs over 200 hosts, one fault in a hundred, in one process.

The book is the real one (admission, attempts, events); only the hosts and the clock are made up. Hosts run jobs, fail some, lose their
link for a while or for good, lose an answer after it was carried out, and come back with jobs that were given up long ago. What is
checked is what matters: every job's result is counted exactly once, none is counted that was given up, no host is ever given more than
it has, and no attempt hands anything in that the controller has already given up.
"""

import argparse
import json
import random
import resource
import sys
import time
from dataclasses import dataclass, field

from snakemake_executor_plugin_ssh.admission import Need
from snakemake_executor_plugin_ssh.attempts import NoJournal
from snakemake_executor_plugin_ssh.book import Book
from snakemake_executor_plugin_ssh.lease import lease_seconds

LIMIT = 900.0
POLL = 10.0


@dataclass
class SimulatedHost:
    """A host: what it runs (token → end, job, exit code), until when its lease holds, when its link is there."""

    name: str
    cores: int
    gpu: int
    dead: bool = False
    away_until: float = 0.0
    lease_until: float = 0.0
    running: dict[str, tuple[float, str, int]] = field(default_factory=dict)
    ended: dict[str, tuple[str, int]] = field(default_factory=dict)


class World:
    """The hosts, the clock, and what was handed in: job → tokens whose results arrived at the store."""

    def __init__(self, hosts: int, faults: float, seed: int):
        self.random = random.Random(seed)
        self.now, self.faults = 0.0, faults
        self.hosts = {f"h{i}": SimulatedHost(f"h{i}", self.random.choice([2, 4, 8]), int(i % 10 == 0)) for i in range(hosts)}
        self.handed_in: dict[str, list[str]] = {}
        self.counts = dict.fromkeys(("answers lost", "links cut", "hosts gone", "jobs failed"), 0)

    def step(self, host: SimulatedHost) -> None:
        """Jobs whose time has come end; what they made is handed in only while the lease holds."""
        for token, (end, job, code) in list(host.running.items()):
            if end <= self.now and not host.dead and self.now <= host.lease_until:
                del host.running[token]
                host.ended[token] = (job, code)
                if code == 0:
                    self.handed_in.setdefault(job, []).append(token)

    def exchange(self, host: SimulatedHost, request: dict, lease: float) -> dict | None:
        """What an agent does with a request; None: no answer."""
        if host.dead or host.away_until > self.now:
            return None
        for token in request["cancel"]:
            if host.running.pop(token, None):
                host.ended[token] = ("", -9)
        host.lease_until = max(host.lease_until, self.now + lease)
        self.step(host)
        for token in request["forget"]:
            host.ended.pop(token, None)
        for attempt in request["launch"]:
            if attempt.token not in host.running and attempt.token not in host.ended:
                fails = self.random.random() < self.faults
                self.counts["jobs failed"] += fails
                host.running[attempt.token] = (self.now + self.random.uniform(60, 600), attempt.job, int(fails))
        reply = {"launched": {attempt.token: None for attempt in request["launch"]}, "jobs": {}}
        for token in request["watch"]:
            if token in host.running:
                reply["jobs"][token] = {"state": "running"}
            elif token in host.ended:
                reply["jobs"][token] = {"state": "ended", "rc": host.ended[token][1]}
            else:
                reply["jobs"][token] = {"state": "unknown"}
        if request["launch"] and self.random.random() < self.faults:
            self.trouble(host)
            return None  # carried out, and the answer never came
        return reply

    def trouble(self, host: SimulatedHost) -> None:
        kind = self.random.choices(["answers lost", "links cut", "hosts gone"], [4, 4, 1])[0]
        self.counts[kind] += 1
        if kind == "links cut":
            host.away_until = self.now + self.random.choice([30, 120, 1200, 3000])
        elif kind == "hosts gone":
            host.dead = True


def simulate(jobs: int, hosts: int, faults: float, seed: int) -> dict:
    """Run to the end; returns figures. AssertionError: a promise was broken."""
    world = World(hosts, faults, seed)
    lease = lease_seconds(LIMIT, POLL, shared=False)
    assert lease is not None
    numbers = iter(range(10**9))
    book = Book(list(world.hosts), LIMIT, NoJournal(), 0.0, token=lambda: f"t{next(numbers)}")
    needs = [Need(1), Need(2, mem_mb=4000), Need(4), Need(1, gpu=1)]
    for number in range(jobs):
        book.submit(f"job{number}", needs[number % len(needs)])
    counted: dict[str, str] = {}
    tries = dict.fromkeys((f"job{number}" for number in range(jobs)), 0)
    lost = 0
    begun = time.process_time()
    while len(counted) < jobs:
        world.now += POLL
        for host in world.hosts.values():
            state = book.hosts[host.name]
            if state.link != "up":
                if host.dead or host.away_until > world.now:
                    book.lost(host.name, "no answer")
                    world.step(host)
                    continue
                # As a link does it: what was given up ends before anything else is said.
                for attempt in state.attempts.values():
                    if attempt.revoked and host.running.pop(attempt.token, None):
                        host.ended[attempt.token] = ("", -9)
                book.opened(host.name, {"cores": host.cores, "mem_mb": 8000, "gpu": host.gpu}, world.now)
            request = book.request(host.name)
            reply = world.exchange(host, request, lease)
            if reply is None:
                book.lost(host.name, "no answer")
            else:
                book.replied(host.name, request, reply, world.now)
            room = state.room
            assert room is not None and room.used_cores <= room.cores and room.used_mem_mb <= room.mem_mb
        book.tick(world.now)
        events, book.events = book.events, []
        for event in events:
            if event.kind == "finished":
                assert event.job not in counted, f"{event.job} was counted twice"
                counted[event.job] = event.token
                book.settled(event.host, event.token)
            elif event.kind in ("failed", "impossible"):
                tries[event.job] += 1
                assert tries[event.job] < 20, f"{event.job} fails for ever: {event.text}"
                if event.token:
                    book.settled(event.host, event.token)
                book.submit(event.job, needs[int(event.job[3:]) % len(needs)])
            elif event.kind == "lost":
                lost += 1
    seconds = time.process_time() - begun
    # What lies in the store is what was counted: the last one handed in is the one that counts, and nothing came after it.
    for job, tokens in world.handed_in.items():
        assert tokens[-1] == counted[job], f"{job}: {counted[job]} was counted, and {tokens[-1]} was handed in last"
    return {
        "jobs": jobs,
        "hosts": hosts,
        "cpu_seconds": round(seconds, 2),
        "ms_per_job": round(1000 * seconds / jobs, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)),
        "hours_simulated": round(world.now / 3600, 1),
        "started_elsewhere": lost,
        **world.counts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[2500, 5000, 10000, 20000])
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--faults", type=float, default=0.01, help="share of launches that meet one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for jobs in args.jobs:
        print(json.dumps(simulate(jobs, args.hosts, args.faults, args.seed)), flush=True)


if __name__ == "__main__":
    main()
