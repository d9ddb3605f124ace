"""The process beside a training that brings its checkpoints to the storage, and how far it is. Started by trainyard.machines.mirror.

    python -m trainyard.machines.mirroring FOLDER STORE

Ends when standard input ends, after a last look: so it outlives a training that was killed by just that. It runs at the lowest
priority that keeps it moving, sends only what changed, and rests four times as long as a transfer took.
"""

import os
import select
import signal
import sys
import time
from pathlib import Path

from trainyard.machines.checkpoints import Mirrored, local_entries
from trainyard.machines.s3 import client

EVERY = float(os.environ.get("TRAINYARD_MIRROR_SECONDS", "20"))  # seconds between two transfers, at least
LOOK = 1.0


class Mirroring:
    """What is there of a training, and what is due."""

    def __init__(self, there: Mirrored):
        self.there = there
        self.seen = False  # whether there is a checkpoint at all
        self._last: str | None = None
        self._due = self._word_due = 0.0
        self._trouble, self._tidied = "", False

    def look(self, ended: bool) -> bool:
        """Send what is due, or, when the training has `ended`, what is left. False: there may be something newer already."""
        newest = next((e for e in reversed(local_entries(self.there.folder)) if e["step"]), None)
        self.seen = bool(newest)
        if newest and newest["sha256"] != self._last and (ended or time.monotonic() >= self._due):
            began = time.monotonic()
            if not self._try(lambda: self._put(newest), newest):
                return False
            self._due = time.monotonic() + max(EVERY, 4 * (time.monotonic() - began))
        if ended or time.monotonic() >= self._word_due:
            began = time.monotonic()
            self._try(self.there.put_progress, None)
            self._word_due = time.monotonic() + max(EVERY / 2, 4 * (time.monotonic() - began))
        return True

    @property
    def failed(self) -> bool:
        return bool(self._trouble)

    def _put(self, newest: dict) -> None:
        self.there.put(newest)
        self._last = newest["sha256"]
        if self._trouble:
            _say(f"mirroring again, at step {newest['step']}")
        self._trouble = ""
        if not self._tidied:
            self.there.forget_others()
            self._tidied = True

    def _try(self, transfer, newest: dict | None) -> bool:
        """Trouble is said once. False: the training has moved on and removed what was being sent."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            transfer()
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            if newest is None:
                return True  # a lost word costs nothing
            if isinstance(error, FileNotFoundError) and newest not in local_entries(self.there.folder):
                return False
            if not self._trouble:
                _say(f"note: checkpoints are not mirrored at the moment, the training goes on ({' '.join(str(error).split())[:300]})")
            self._trouble = str(error) or type(error).__name__
        return True


def main(folder: str, store: str) -> int:
    # The training decides what a signal means; the end of standard input is this process's.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)
    mirroring, ended = Mirroring(Mirrored(client(), store, Path(folder))), False
    while True:
        if not mirroring.look(ended):
            continue
        if ended:
            return int(mirroring.failed)
        ready, _, _ = select.select([0], [], [], LOOK if mirroring.seen else min(LOOK, EVERY))
        ended = bool(ready) and not os.read(0, 1024)


def _say(line: str) -> None:
    print(f"mirror: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
