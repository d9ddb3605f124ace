"""The short kill test: SIGKILL at random moments of a real training, in the middle of saves too, and the same bytes at the end."""

import re
import subprocess
import sys
from pathlib import Path

KILL = Path(__file__).parents[2] / "benchmarks" / "kill_anywhere.py"


def test_twelve_kills_and_the_same_bytes_and_what_is_broken_is_found():
    done = subprocess.run([sys.executable, str(KILL), "--kills", "12", "--prove"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 kills landed" in done.stdout and "byte-equal" in done.stdout and "FAULT" not in done.stdout
    assert int(re.search(r"^(\d+) of them in the middle of a save", done.stdout, re.M)[1]) >= 3
    assert re.findall(r"^sabotage (\S+): found", done.stdout, re.M) == ["no-kill", "optimizer", "order", "torn"]
