"""Run a command for as long as whoever started this lives: when standard input ends, the command is ended too.

    python tied.py COMMAND …

Works after a kill -9 of the starter on any Unix: a pipe ends with the process that holds it. This process ignores Ctrl+C, which a
terminal sends to all at once; its end is the pipe's.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

PATIENCE = 5.0  # seconds between the word to end and the end


def main(command: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getpid()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=lambda: _die_with(parent))
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=_end_with_input, args=(child,), daemon=True).start()
    return child.wait()


def _end_with_input(child: subprocess.Popen) -> None:
    while os.read(0, 1024):
        pass
    child.terminate()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()


def _die_with(parent: int) -> None:
    """On Linux, also when this process is killed -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
