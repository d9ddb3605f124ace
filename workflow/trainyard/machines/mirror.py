"""What a training has to do with the storage: take up a newer checkpoint before it starts, and have its own brought there meanwhile.

Only where TRAINYARD_CHECKPOINT_STORE names one (s3://bucket/folder); the keys are those of Snakemake's S3 plugin, from the environment.
Whatever goes wrong there is a line in the log: the training goes on.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LAST = 60.0  # seconds that the last transfer may keep a training that is done


@contextmanager
def beside(say: Callable[[str], Any] = print) -> Iterator["Mirror | None"]:
    """The mirror of a training, for as long as it lasts; None where no store is named."""
    store = os.environ.get("TRAINYARD_CHECKPOINT_STORE")
    if not store:
        yield None
        return
    mirror = Mirror(store, say)
    try:
        yield mirror
    finally:
        mirror.end()


class Mirror:
    """What trainyard.train.job asks of a place where checkpoints are kept besides the run's own folder."""

    def __init__(self, store: str, say: Callable[[str], Any]):
        self.store, self.say = store, say
        self._process: subprocess.Popen | None = None

    def fetch(self, folder: Path) -> None:
        """Bring a newer checkpoint into `folder`, where there is one."""
        from botocore.exceptions import BotoCoreError, ClientError

        from trainyard.machines.checkpoints import Mirrored
        from trainyard.machines.s3 import client

        try:
            Mirrored(client(retries=10), self.store, folder).fetch(self.say)
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            self.say(f"note: the storage cannot be asked for a newer checkpoint, going on without ({' '.join(str(error).split())[:300]})")

    def take_up(self, folder: Path) -> None:
        """The same, and from now on keep what is saved in `folder`."""
        self.fetch(folder)
        # A process and not a thread: whatever it does, the training does not wait for it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trainyard.machines.mirroring", str(folder.absolute()), self.store], stdin=subprocess.PIPE
        )

    def end(self) -> None:
        """Wait for the last transfer, within limits."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(LAST)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self.say(f"note: the last checkpoint was not mirrored within {LAST:.0f} s")
