"""Answers the controller over one connection: starts, watches and ends jobs, takes source files, gives back logs.

One agent serves a project on a host. A new one ends its predecessor and the connection that carried it before it answers, so no request
of an earlier connection is still being carried out when the first of the new one is."""

import fcntl
import json
import os
import platform
import select
import shutil
import signal
import sys
import time
import zlib

from . import environment, logs
from .frames import Frames, encode
from .lease import Lease
from .processes import boot_clock, end_family, send, still
from .sources import Sources
from .supervisor import detach
from .takeover import open_project, take_over

_LOG_PIECE = 1 << 18
_TAIL = 4096


class Agent:
    """Carries out the requests of one controller."""

    def __init__(self, hello):
        self._root = open_project(hello["workdir"], hello["project"])
        self._lock = take_over(self._root, hello["local"])
        self._hello = hello
        self._sources = Sources(self._root)
        self._manifest = None
        self._lease = Lease(os.path.join(self._root, "lease"))
        self._lease.create()

    def greet(self):
        """What this machine is and has."""
        return {
            "clock": boot_clock(),
            "time": environment.time_of_day(),
            "root": self._root,
            "python": platform.python_version(),
            "problems": environment.problems(self._hello["packages"]),
            "sources": self._sources.has(self._hello["version"]) if self._hello["version"] else True,
            "jobs": sorted(os.listdir(os.path.join(self._root, "jobs"))),
            **environment.size(),
        }

    def answer(self, request, raw, interrupted):
        """Reply (header, raw) to one request. `interrupted(seconds)` waits for the next one at most so long."""
        reply = {"clock": boot_clock(), "launched": {}}
        body = b""
        if "manifest" in request:
            self._manifest = request["manifest"]
            reply["missing"] = self._sources.missing(self._manifest)
        if pieces := request.get("pieces"):
            self._take(pieces, zlib.decompress(raw))
        if request.get("install"):
            self._sources.install(self._hello["version"], self._manifest, self._versions_in_use())
        for token in request.get("cancel", ()):
            self._cancel(token)
        if lease := request.get("lease"):
            self._lease.extend(lease["seen"], lease["seconds"])
        for token in request.get("forget", ()):
            shutil.rmtree(self._folder(token), ignore_errors=True)
        for job in request.get("launch", ()):
            reply["launched"][job["token"]] = self._launch(job)
        if log := request.get("log"):
            body = zlib.compress(logs.read(self._folder(log["token"]), log["offset"], _LOG_PIECE), 1)
        reply["jobs"] = self._wait(request.get("watch", ()), request.get("wait", 0), interrupted)
        return reply, body

    def _wait(self, tokens, seconds, interrupted):
        until = time.monotonic() + seconds
        while True:
            found = {token: self._status(token) for token in tokens}
            left = until - time.monotonic()
            if left <= 0 or any(status["state"] != "running" for status in found.values()) or interrupted(min(0.25, left)):
                return found

    def _status(self, token):
        """unknown (never started here), running, or ended with rc (None: no exit code) and reason."""
        folder = self._folder(token)
        if not os.path.isdir(folder):
            return {"state": "unknown"}
        if result := self._result(folder):
            return result
        if self._supervised(folder):
            return {"state": "running"}
        if result := self._result(folder):
            return result
        end_family(token, grace=1.0)
        return {"state": "ended", "rc": None, "reason": "its supervisor was killed or the host was restarted", "tail": self._tail(folder)}

    def _result(self, folder):
        try:
            with open(os.path.join(folder, "result")) as file:
                return {"state": "ended", **json.load(file), "tail": self._tail(folder)}
        except FileNotFoundError:
            return None

    def _tail(self, folder):
        return logs.tail(folder, _TAIL).decode(errors="replace")

    def _supervised(self, folder):
        try:
            fd = os.open(os.path.join(folder, "alive"), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(fd)

    def _cancel(self, token):
        folder = self._folder(token)
        if not os.path.isdir(folder) or os.path.exists(os.path.join(folder, "result")):
            return
        if self._supervised(folder):
            with open(os.path.join(folder, "who")) as file:
                who = json.load(file)
            if still(who["pid"], who["start"]):
                send([who["pid"]], signal.SIGTERM)
        else:
            end_family(token, grace=1.0)

    def _launch(self, job):
        """None, or why not. The same token twice is started once."""
        folder = self._folder(job["token"])
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            return None
        except OSError as problem:
            return f"{problem.strerror}: {folder}"
        keep = {name: os.path.join(self._root, "keep", name) for name in job.get("keep", ())}
        environment_ = {**os.environ, **job["environment"]}
        environment_["PATH"] = os.path.dirname(os.path.abspath(sys.executable)) + os.pathsep + os.environ.get("PATH", os.defpath)
        whole = {**job, "folder": folder, "lease": os.path.join(self._root, "lease"), "keep": keep, "environment": environment_}
        reason = detach(whole, self._sources)
        if reason:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with open(os.path.join(folder, "version"), "w") as file:
                file.write(job.get("version") or "")
        return reason

    def _take(self, pieces, data):
        begin = 0
        for sha, offset, length, last in pieces:
            self._sources.add(sha, offset, data[begin : begin + length], last)
            begin += length

    def _versions_in_use(self):
        found = set()
        for token in os.listdir(os.path.join(self._root, "jobs")):
            try:
                with open(os.path.join(self._folder(token), "version")) as file:
                    found.add(file.read())
            except OSError:
                pass
        return found

    def _folder(self, token):
        if not token.isalnum():
            raise ValueError(f"not a token: {token!r}")
        return os.path.join(self._root, "jobs", token)


def serve(hello, source=0, target=1):
    """Answer requests until the connection ends."""
    frames = Frames()

    def more(seconds):
        """Whether another request has arrived within so many seconds; ends this process when none can come any more."""
        if frames.pending and seconds < 1:
            return True
        if not select.select([source], [], [], seconds)[0]:
            return False
        data = os.read(source, 1 << 20)
        if not data:
            os._exit(0)
        frames.feed(data)
        return True

    def reply(header, raw=b""):
        data = memoryview(encode(header, raw))
        while data:
            data = data[os.write(target, data) :]

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        agent = Agent(hello)
        reply(agent.greet())
        while True:
            while (message := frames.next()) is None:
                more(3600)
            if message[0].get("wake"):
                continue
            reply(*agent.answer(*message, more))
    except (OSError, RuntimeError, ValueError) as problem:
        reply({"failed": f"{type(problem).__name__}: {problem}"})
