"""The process beside a training that brings its checkpoints to the storage. Started by trainyard.machines.mirror.

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


def main(folder: str, store: str) -> int:
    # The training decides what a signal means; the end of standard input is this process's.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)
    from botocore.exceptions import BotoCoreError, ClientError

    there, last, due, ended, trouble, tidied = Mirrored(client(), store, Path(folder)), None, 0.0, False, "", False
    while True:
        newest = next((e for e in reversed(local_entries(there.folder)) if e["step"]), None)
        if newest and newest["sha256"] != last and (ended or time.monotonic() >= due):
            began = time.monotonic()
            try:
                there.put(newest)
                last = newest["sha256"]
                if trouble:
                    _say(f"mirroring again, at step {newest['step']}")
                trouble = ""
                if not tidied:
                    there.forget_others()
                    tidied = True
            except (BotoCoreError, ClientError, OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError) and newest not in local_entries(there.folder):
                    continue  # the training has moved on: there is a newer one
                if not trouble:
                    _say(f"note: checkpoints are not mirrored at the moment, the training goes on ({' '.join(str(error).split())[:300]})")
                trouble = str(error)
            due = time.monotonic() + max(EVERY, 4 * (time.monotonic() - began))
        if ended:
            return int(bool(trouble))
        ready, _, _ = select.select([0], [], [], LOOK if last or newest else min(LOOK, EVERY))
        ended = bool(ready) and not os.read(0, 1024)


def _say(line: str) -> None:
    print(f"mirror: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
