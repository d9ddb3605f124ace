"""Processes of this machine: who they are, who belongs to a job, and how a job is ended to its last process."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

TOKEN = "SNAKEMAKE_SSH_TOKEN"
_LINUX = sys.platform.startswith("linux")
_DEATH_SIGNAL, _SUBREAPER = 1, 36  # prctl(2): PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER


def boot_clock():
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _prctl(option, value):
    if _LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def adopt_orphans():
    """From now on processes whose parent ends become children of this one, not of init (Linux)."""
    _prctl(_SUBREAPER, 1)


def die_with(parent):
    """This process is killed when its parent ends, however that ends (Linux)."""
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _stat(pid):
    """Name, parent, and start time in clock ticks; None: no such process, or a dead one that nobody has asked about yet."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return None if rest[0] in "ZX" else (name, int(rest[1]), rest[19])


def _ps(*columns, pid=None):
    command = ["ps", "-A" if pid is None else "-p", *([] if pid is None else [str(pid)])]
    for column in columns:
        command += ["-o", column + "="]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env={**os.environ, "LC_ALL": "C"})
    return [line.split(None, len(columns) - 1) for line in done.stdout.splitlines() if line.strip()]


def start_of(pid):
    """When a process began, as text that is only good for comparing; None: it is gone. A pid alone may be somebody else's by now."""
    if _LINUX:
        found = _stat(pid)
        return found and found[2]
    found = _ps("lstart", pid=pid)
    return found[0][0] if found else None


def name_and_parent(pid):
    """Short name and parent of a process, or None."""
    if _LINUX:
        found = _stat(pid)
        return found and found[:2]
    found = _ps("ppid", "comm", pid=pid)
    return (os.path.basename(found[0][1]), int(found[0][0])) if found else None


def still(pid, start):
    """Whether this very process lives."""
    return pid is not None and start is not None and start_of(pid) == start


def family(token, root=None):
    """Pids of a job: the descendants of `root`, and every process that carries its token in the environment it was started with."""
    parents, marked = {}, set()
    if _LINUX:
        needle = f"{TOKEN}={token}".encode()
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or (found := _stat(int(entry))) is None:
                continue
            parents[int(entry)] = found[1]
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if needle in file.read().split(b"\0"):
                        marked.add(int(entry))
            except OSError:
                pass
    else:
        parents = {int(pid): int(parent) for pid, parent in _ps("pid", "ppid")}
    if root is not None:
        marked.add(root)
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in marked} - marked
        marked |= more
        grown = bool(more)
    return marked - {root, os.getpid()}


def send(pids, signum):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def reap():
    """Ends of children so far: {pid: exit code, negative for a signal}."""
    ended = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def end_family(token, root=None, first=None, grace=5.0):
    """End every process of a job: `first` at once (it must not hand in anything), the others asked, and after `grace` seconds killed.
    Returns the exit codes of children that ended meanwhile."""
    ended = {}
    if first:
        send([first], signal.SIGKILL)
    asked, until = set(), time.monotonic() + grace
    while True:
        ended.update(reap())
        left = family(token, root)
        if not left:
            return ended
        if time.monotonic() < until:
            # A stopped process hears TERM only when it goes on.
            send(left - asked, signal.SIGTERM)
            send(left - asked, signal.SIGCONT)
            asked |= left
        else:
            send(left, signal.SIGKILL)
        time.sleep(0.1)
