"""Being asked to stop: signals, a parent that is gone. The loop looks at the flag after every step."""

import os
import signal

RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: saved, not finished, start me again
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopFlag:
    """`reason` is None until training should save and leave."""

    def __init__(self, watch_parent: bool = False):
        self.reason: str | None = None
        self._parent = os.getppid() if watch_parent else None

    def listen(self) -> "StopFlag":
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        return self

    def requested(self) -> bool:
        if self._parent is not None and os.getppid() != self._parent:
            self.reason = "the workflow that started this run is gone"
        return self.reason is not None

    def _on_signal(self, number: int, _frame) -> None:
        if self.reason is not None and number == signal.SIGINT:
            os._exit(130)  # the second Ctrl+C: at once; the checkpoint before this one is intact
        self.reason = f"received {signal.Signals(number).name}"


class Stopped(Exception):
    """Training saved its state and left early; the message says why."""
