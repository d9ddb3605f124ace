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
    lock = _locked(folder, busy)
    while not _is_at(lock, folder):  # the process that held it removed it as it left
        os.close(lock)
        lock = _locked(folder, busy)
    _LOCKS.add(lock)
    try:
        yield folder
    finally:
        _LOCKS.discard(lock)
        os.close(lock)


def _locked(folder: Path, busy: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise DataError(busy) from None
    return lock


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


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
