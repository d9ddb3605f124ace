"""The lock that a killed Snakemake leaves on its folder: told from one that is held, and taken away.

Snakemake locks a folder with files that do not say whose they are. After a SIGKILL or a power loss they stay, and every later call
refuses until a person says --unlock; so a machine that was taken away would not go on by itself. Here a running Snakemake claims its
lock files in a file of its own, which it holds by flock as long as it lives: the kernel lets go of it, however it ends. Locks that
nobody claims are left to a person, and so are those that another host claims: not every shared disk shows flocks to all its hosts.
"""

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_held: list[tuple[int, dict[str, list[int]]]] = []  # this process' claims, open as long as it lives, and the lock files in them


def claim_locks(state: Path = Path(".snakemake")) -> None:
    """Claim the lock files below `state` that no one else claims; to be called when Snakemake has made its own. Best effort."""
    claims = _folder(state)
    with suppress(OSError):
        claims.mkdir(parents=True, exist_ok=True)
        others = [claim["locks"] for _, claim in _claims(claims)]
        locks = {name: mark for name, mark in _marks(state).items() if not any(o.get(name) == mark for o in others)}
        handle = os.open(claims / f"{socket.gethostname()}-{os.getpid()}.json", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "locks": locks}).encode(), 0)
        _held.append((handle, locks))


def drop_own_locks(state: Path = Path(".snakemake")) -> None:
    """Remove the lock files that this process claimed: for an end at which Snakemake itself cannot."""
    now = _marks(state)
    for name in [name for _, locks in _held for name, mark in locks.items() if now.get(name) == mark]:
        (state / "locks" / name).unlink(missing_ok=True)


def drop_dead_locks(say: Callable[[str], Any], state: Path = Path(".snakemake")) -> None:
    """Remove the lock files of a Snakemake of this host that is gone, with a line about it."""
    for path, claim in list(_claims(_folder(state))):
        if claim["host"] != socket.gethostname():
            continue
        with suppress(OSError), open(path, "r+b") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # held: it lives
            dead = [name for name, mark in _marks(state).items() if claim["locks"].get(name) == mark]
            for name in dead:
                (state / "locks" / name).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            if dead:
                say(f"an earlier snakemake in this folder (pid {claim['pid']}) was killed; its lock is taken away")


def _folder(state: Path) -> Path:
    return state / "trainyard" / "claims"


def _marks(state: Path) -> dict[str, list[int]]:
    """What tells the lock files that are there from later ones of the same name."""
    found = {}
    for path in (state / "locks").glob("*.lock"):
        with suppress(OSError):
            status = path.stat()
            found[path.name] = [status.st_ino, status.st_mtime_ns]
    return found


def _claims(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            claim = json.loads(path.read_text(encoding="utf-8"))
            yield path, {"host": str(claim["host"]), "pid": int(claim["pid"]), "locks": dict(claim["locks"])}
