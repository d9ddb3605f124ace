"""Being asked to stop: signals, a deadline, a parent that is gone. The loop looks at the flag after every step."""

import os
import signal
import time
from datetime import datetime

RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: saved, not finished, start me again
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
MARGIN = 60.0  # seconds before a batch system's own limit, for the last save


class StopFlag:
    """`reason` is None until training should save and leave. `parent` is the process without which it should; `deadline` is in
    seconds since the epoch."""

    def __init__(self, parent: int | None = None, deadline: float | None = None):
        self.reason: str | None = None
        self.deadline = deadline
        self._parent = parent

    def listen(self) -> "StopFlag":
        for number in SIGNALS:
            # Under nohup a hangup is ignored, and stays so.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        return self

    def requested(self) -> bool:
        if self.reason is None:
            if self._parent is not None and os.getppid() != self._parent:
                self.reason = "the workflow that started this run is gone"
            elif self.deadline is not None and time.time() >= self.deadline:
                self.reason = f"the deadline of {datetime.fromtimestamp(self.deadline):%Y-%m-%d %H:%M:%S} has come"
        return self.reason is not None

    def _on_signal(self, number: int, _frame) -> None:
        if self.reason is not None and number == signal.SIGINT:
            os._exit(130)  # the second Ctrl+C: at once; the checkpoint before this one is intact
        self.reason = f"received {signal.Signals(number).name}"


class Stopped(Exception):
    """Training saved its state and left early; the message says why."""


class StartAnew(Exception):
    """This process can do no more, but a new one of the same command can go on; the message says why."""


def batch_deadline() -> float | None:
    """When Slurm will end this job (SLURM_JOB_END_TIME), less a minute to save in; None elsewhere."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(end) - MARGIN if end.isdigit() else None
