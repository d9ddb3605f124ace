"""The lease: until when, on this machine's own boot clock, jobs may hand in results.

The controller extends it with every contact, always counted from a reading of this clock that it has already seen, so a request that
arrives late extends nothing by more than it was worth when it was sent. No two machines' clocks are ever compared."""

import os

from .processes import boot_clock

_WIDTH = 32


class Lease:
    """A small file of fixed size, written in place: that works on a full disk, too."""

    def __init__(self, path):
        self._path = path

    def create(self):
        if not os.path.exists(self._path):
            with open(self._path, "wb") as file:
                file.write(b"0".ljust(_WIDTH))

    def extend(self, seen, seconds):
        """Until `seconds` after `seen`; None: without end. Never shortens."""
        until = float("inf") if seconds is None else seen + seconds
        if seconds is None or until > self.until():
            with open(self._path, "r+b") as file:
                file.write(repr(until).encode().ljust(_WIDTH))

    def until(self):
        """Boot clock at which it ends; 0 when there is none or it cannot be read."""
        try:
            with open(self._path, "rb") as file:
                return float(file.read(_WIDTH))
        except (OSError, ValueError):
            return 0.0

    def over(self):
        return boot_clock() > self.until()
