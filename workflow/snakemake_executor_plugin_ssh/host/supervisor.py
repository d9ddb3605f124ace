"""One job on this host: starts it, watches its lease, ends it to its last process, and leaves its exit code in one step.

It belongs to no session and no connection, so neither the end of ssh nor that of the controller touches it. What hands in results (the
job's own snakemake) is its direct child, is killed with it, and is stopped while the lease is over."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal

from . import logs
from .lease import Lease
from .processes import TOKEN, adopt_orphans, boot_clock, die_with, end_family, family, reap, send, start_of

TICK = 0.25


class Supervisor:
    """`job`: token, command, environment, folder (of this attempt), lease (path), hold ("uploader" or "all"), log_limit, grace, and
    either directory (shared filesystem) or version, keep and sources (a copy of its own)."""

    def __init__(self, job, sources):
        self._job, self._sources, self._folder = job, sources, job["folder"]
        self._lease = Lease(job["lease"])
        self._cancelled = self._held = False
        self._begun = boot_clock()

    def run(self, ready):
        """To the end of the job. `ready(problem)` is called once: with None when the job is in good hands."""
        adopt_orphans()
        self._lock = os.open(os.path.join(self._folder, "alive"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        wake, signalled = os.pipe()
        os.set_blocking(signalled, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(signalled)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._cancel)
        self._write("who", {"pid": os.getpid(), "start": start_of(os.getpid())})
        # Room for the result while there is some: writing it later must not need any.
        self._write("result.tmp", {"reason": " " * 2000})
        work = self._make_work()
        ready(None)
        code = None
        try:
            code = self._watch(self._start(work), wake)
            end_family(self._job["token"], os.getpid(), grace=2.0)
            reason = "cancelled" if self._cancelled else None
        except OSError as problem:
            reason = f"its supervisor failed: {problem}"
            end_family(self._job["token"], os.getpid(), grace=0.0)
        self._clean(work)
        self._finish({"rc": code, "reason": reason, "seconds": round(boot_clock() - self._begun, 3)})

    def _cancel(self, *_):
        self._cancelled = True

    def _make_work(self):
        if self._job.get("directory") is not None:
            return self._job["directory"]
        work = os.path.join(self._folder, "work")
        os.mkdir(work)
        for name, kept in self._job["keep"].items():
            os.makedirs(kept, exist_ok=True)
            place = os.path.join(work, name)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.symlink(kept, place)
        self._sources.copy(self._job["version"], work)
        return work

    def _start(self, work):
        environment = {**self._job["environment"], TOKEN: self._job["token"]}
        parent = os.getpid()
        child = os.fork()
        if child:
            return child
        try:
            os.setsid()
            die_with(parent)
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE, signal.SIGHUP):
                signal.signal(signum, signal.SIG_DFL)
            log = os.open(os.path.join(self._folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(work)
            os.execve("/bin/sh", ["sh", "-c", self._job["command"]], environment)
        except BaseException as problem:
            os.write(2, f"the job could not be started: {problem}\n".encode())
            os._exit(126)

    def _watch(self, child, wake):
        """Exit code of the job; None when it was cancelled."""
        while True:
            ended = reap()
            if child in ended:
                return ended[child]
            if self._cancelled:
                ended = end_family(self._job["token"], os.getpid(), first=child, grace=self._job["grace"])
                return None
            self._hold(child)
            with contextlib.suppress(OSError):
                logs.cut(self._folder, self._job["log_limit"])
            select.select([wake], [], [], TICK)
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)

    def _hold(self, child):
        """Stop and continue what may hand in results, as the lease says."""
        over = self._lease.over()
        everything = self._job["hold"] == "all"
        if over and (everything or not self._held):
            send(family(self._job["token"], os.getpid()) if everything else [child], signal.SIGSTOP)
        elif self._held and not over:
            send(family(self._job["token"], os.getpid()) if everything else [child], signal.SIGCONT)
        self._held = over

    def _clean(self, work):
        if self._job.get("directory") is None:
            for name in self._job["keep"]:
                os.unlink(os.path.join(work, name))
            shutil.rmtree(work, ignore_errors=True)

    def _write(self, name, content):
        with open(os.path.join(self._folder, name), "w") as file:
            json.dump(content, file)

    def _finish(self, result):
        """In place and then by a new name: a full disk does not stop it, and nobody reads half of it."""
        partial = os.path.join(self._folder, "result.tmp")
        text = json.dumps(result).encode()
        with open(partial, "r+b") as file:
            file.write(text.ljust(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, os.path.join(self._folder, "result"))


def detach(job, sources):
    """Start a supervisor that nobody waits for. Returns None, or in words why the job could not be started."""
    told, tell = os.pipe()
    first = os.fork()
    if first:
        os.close(tell)
        os.waitpid(first, 0)
        with os.fdopen(told, "rb") as file:
            answer = file.read().decode()
        return None if answer == "ready" else answer or "its supervisor ended at once"
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        os.closerange(3, tell)
        os.closerange(tell + 1, 256)
        os.chdir("/")

        def ready(problem):
            os.write(tell, (problem or "ready").encode())
            os.close(tell)

        try:
            Supervisor(job, sources).run(ready)
        except OSError as problem:
            # Only the lines before `ready` come here: what fails later is in the result.
            ready(f"{problem.strerror or problem}: {problem.filename or job['folder']}")
    finally:
        os._exit(0)
