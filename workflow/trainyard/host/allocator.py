"""The C library's handling of freed memory (glibc; elsewhere nothing is done)."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_freed_memory(most: int = 32 << 20) -> None:
    """Let it keep what numpy and torch free, for arrays up to 32 MB, rather than hand it back and take it again page by page.

    For work on many arrays of a megabyte or two, where new pages cost more than the arithmetic: a training that asks for the same
    sizes at every step spends a quarter to two thirds of its system time on them.
    """
    _set(trim=4 * most, mmap=most)


def give_freed_memory_back(least: int = 128 << 10) -> None:
    """Let it hand back at once whatever is larger than 128 KB: under a cap, what is kept is missing to whatever maps memory of its own.

    By itself glibc raises that limit to the size of what was freed, up to 32 MB.
    """
    _set(trim=least, mmap=least)


def _set(trim: int, mmap: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, trim)
        mallopt(_MMAP_THRESHOLD, mmap)
