"""One agent a project: a new one ends its predecessor and the sshd that carried it, before it answers."""

import fcntl
import json
import os
import signal
import time

from .processes import name_and_parent, send, start_of, still


def open_project(workdir, project):
    """Folder of a project below the working folder, ours alone."""
    root = os.path.join(os.path.expanduser(workdir), project)
    os.makedirs(root, mode=0o700, exist_ok=True)
    for name in ("jobs", "keep"):
        os.makedirs(os.path.join(root, name), mode=0o700, exist_ok=True)
    return root


def take_over(root, local):
    """Become the one agent of this project; returns the lock's file descriptor, to be kept open. `local`: no sshd of ours carries it."""
    lock = os.open(os.path.join(root, "agent"), os.O_RDWR | os.O_CREAT, 0o600)
    mine = _chain(local)
    until = time.monotonic() + 15
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                raise RuntimeError("the agent of an earlier connection does not end") from None
            _end_earlier(root, mine)
            time.sleep(0.1)
    _end_earlier(root, mine)
    with open(os.path.join(root, "agent.json.tmp"), "w") as file:
        json.dump(mine, file)
    os.replace(os.path.join(root, "agent.json.tmp"), os.path.join(root, "agent.json"))
    return lock


def _chain(local):
    """This process and the sshd process that carries it: [[pid, start], ...]."""
    found = [[os.getpid(), start_of(os.getpid())]]
    pid = os.getppid()
    while not local and pid > 1 and (known := name_and_parent(pid)):
        if known[0].startswith("sshd"):
            return [*found, [pid, start_of(pid)]]
        pid = known[1]
    return found


def _end_earlier(root, mine):
    try:
        with open(os.path.join(root, "agent.json")) as file:
            earlier = json.load(file)
    except (OSError, ValueError):
        return
    for pid, start in earlier:
        if [pid, start] not in mine and still(pid, start):
            send([pid], signal.SIGKILL)
