"""All that a process started and left behind, also what left its process group (setsid, a daemon). Linux only; elsewhere nothing is found.

A subreaper is given the orphans among its descendants, instead of init: so they can still be found (man 2 PR_SET_CHILD_SUBREAPER).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on, descendants of this process that lose their parent become its children."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(of: int, without: Iterable[int] = ()) -> list[int]:
    """Ids of the processes below `of`, children before grandchildren; `without` some of its children and what is below them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # The name, in brackets, may hold anything; behind it come state and parent.
            parent = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    left_out, found = set(without), [of]
    for pid in found:
        found += [c for c in children.get(pid, []) if c not in left_out]
    return found[1:]


def signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_all(of: int, without: Iterable[int] = ()) -> None:
    """Kill what is below `of` until nothing is: a process may start another one while it is being looked for."""
    for _ in range(50):
        found = descendants(of, without)
        if not found:
            return
        signal_all(found, signal.SIGKILL)
        for pid in found:
            with suppress(ChildProcessError):  # not ours to wait for: its own parent is dead too, so it comes to us next
                os.waitpid(pid, 0)
