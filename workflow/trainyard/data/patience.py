"""Whether storage answers at once, or makes whoever asks it wait: only there are threads worth their price."""

import time

QUICK = 100e-6  # seconds a file: where it takes less, handing it to a thread costs more than the thread saves
GRACE = 5e-3  # seconds that a few files may be late in before threads take over


class Patience:
    """How long some files have taken since this was made, against `quick` seconds for each."""

    def __init__(self, quick: float = QUICK):
        self._quick, self._begun = quick, time.perf_counter()

    def ends(self, done: int) -> bool:
        """Whether so many files should have been done long before now."""
        return time.perf_counter() - self._begun >= GRACE + self._quick * done
