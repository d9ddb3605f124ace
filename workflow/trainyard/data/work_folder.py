"""A folder for what is half done, held by one process at a time: the kernel lets go of it however that one ends."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard.data.errors import DataError

_LOCKS: set[int] = set()  # open files


def _let_go() -> None:
    """In a fork, which would hold the folders when this process is gone."""
    for lock in _LOCKS:
        os.close(lock)


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def held(folder: Path, busy: str) -> Iterator[Path]:
    """The folder, made where it is missing. Raises DataError, with `busy`, when another process is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(busy) from None
        _LOCKS.add(lock)
        yield folder
    finally:
        _LOCKS.discard(lock)
        os.close(lock)


@contextmanager
def held_empty(folder: Path, busy: str) -> Iterator[Path]:
    """The same without what a killed process left in it, and removed in the end, whatever happens."""
    with held(folder, busy):
        for leftover in folder.iterdir():
            leftover.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
