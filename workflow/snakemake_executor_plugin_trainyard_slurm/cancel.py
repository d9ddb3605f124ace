"""Ends all jobs of one call: a process of its own, which no Ctrl+C reaches and which outlives the call.

Jobs are found by their name, the call's id, so that one which is just being submitted is found too. Trainings get SIGTERM and
time to save. Run as a file, with the standard library alone.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

EVERY = 1.0  # seconds
AGAIN = 4.0  # seconds until a job that still runs is asked once more: its trainer may not have been there yet
QUIET = 5.0  # seconds without a job after which none is coming, where nobody said so
GIVE_UP = 1800.0  # seconds without an answer of Slurm
# States in which a job needs nothing more: it is over, or its node is cleaning up.
OVER = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "STAGE_OUT",
    "TIMEOUT",
}  # fmt: skip


class Canceller:
    """The process, seen from the call."""

    def __init__(self, process: subprocess.Popen):
        self._process = process
        self.pid = process.pid

    def no_more(self) -> None:
        """Nothing is being submitted any more."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.write(b"no more\n")
            self._process.stdin.close()

    def wait(self) -> None:
        self._process.wait()


def start_canceller(name: str, grace: int, record: Path, say: Callable[[str], object] | None = None) -> Canceller:
    """Start it; what it does is in cancel.log in `record`."""
    if say is not None:
        say(f"Slurm jobs of an earlier call ({name}) are still there: they save and leave, and go on in this call.")
    record.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-I", "-S", __file__, name, str(grace)]
    with open(record / "cancel.log", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    return Canceller(process)


def end_jobs(name: str, grace: float, no_more: Callable[[], bool | None]) -> None:
    """Until no job of that name is left. `no_more`: None while some may still be submitted, else whether that was said."""
    asked: dict[str, float] = {}
    told: dict[str, float] = {}
    quiet = answered = time.monotonic()
    while True:
        now = time.monotonic()
        jobs = queue(name)
        if jobs is None:
            if now - answered > GIVE_UP:
                sys.exit("Slurm does not answer; look with: squeue --name " + name)
            time.sleep(5)
            continue
        answered = now
        if jobs:
            quiet = now
        elif (said := no_more()) is not None and now - quiet >= (EVERY if said else QUIET):
            return
        running = [job for job, state in jobs.items() if state in ("RUNNING", "SIGNALING")]
        late = [job for job in running if now - asked.setdefault(job, now) > grace]
        _scancel([job for job in jobs if job not in running] + late)
        polite = [job for job in running if job not in late and now - told.get(job, 0.0) > AGAIN]
        _scancel(polite, "--signal=TERM")
        told |= dict.fromkeys(polite, now)
        time.sleep(EVERY)


def queue(name: str) -> dict[str, str] | None:
    """Id and state of the jobs of that name that are not over; None where Slurm did not answer."""
    try:
        done = subprocess.run(["squeue", "--noheader", "--name", name, "--format=%i|%T"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    rows = (line.strip().partition("|") for line in done.stdout.splitlines() if "|" in line)
    return {job: state for job, _, state in rows if state not in OVER}


def _scancel(jobs: list[str], *options: str) -> None:
    for start in range(0, len(jobs), 500):  # a command line has an end
        print(time.strftime("%H:%M:%S"), "scancel", *options, *jobs[start : start + 500], flush=True)
        subprocess.run(["scancel", *options, *jobs[start : start + 500]], stdin=subprocess.DEVNULL, timeout=120, check=False)


def main() -> None:
    """cancel.py NAME SECONDS; a line on stdin says that nothing more is submitted, its end that the call is gone."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    heard: list[bool] = []
    threading.Thread(target=lambda: heard.append(bool(sys.stdin.buffer.readline())), daemon=True).start()
    end_jobs(sys.argv[1], float(sys.argv[2]), lambda: heard[0] if heard else None)


if __name__ == "__main__":
    main()
