"""The C library's handling of freed memory."""

import ctypes
import sys


def keep_freed_memory(most: int = 32 << 20) -> None:
    """Let it keep what numpy and torch free, for arrays up to 32 MB, rather than hand it back and take it again page by page.

    For work on many arrays of a megabyte or two, where new pages cost more than the arithmetic: a training that asks for the same
    sizes at every step spends a third to a half of its system time on them. glibc only.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-1, 4 * most)  # M_TRIM_THRESHOLD
        mallopt(-3, most)  # M_MMAP_THRESHOLD
