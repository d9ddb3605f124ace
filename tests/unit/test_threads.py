"""A command uses as many threads as its rule gives it, whatever the machine has."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
SCRIPTS = HOME / "workflow" / "scripts"
LOOK = """
import json, os, sys
from trainyard.command import thread_limit
thread_limit(int(sys.argv[1]))
import numpy, pyarrow, torch
numpy.ones((300, 300)) @ numpy.ones((300, 300))
torch.ones(300, 300) @ torch.ones(300, 300)
from threadpoolctl import threadpool_info
print(json.dumps([torch.get_num_threads(), pyarrow.cpu_count(), *(pool["num_threads"] for pool in threadpool_info())]))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_numeric_libraries_keep_to_their_number(threads: int) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", LOOK, str(threads)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert len(counts) >= 4 and set(counts) == {min(threads, os.cpu_count() or 1)}, counts


def test_every_command_that_is_told_its_threads_keeps_to_them() -> None:
    for path in SCRIPTS.glob("*.py"):
        source = path.read_text()
        if '"--threads"' in source:
            # A command whose own threads share the work keeps each library call to one.
            assert "thread_limit(args.threads)" in source or "thread_limit(1)" in source, path.name


def test_every_rule_tells_its_command() -> None:
    text = " ".join("".join(path.read_text() for path in (HOME / "rules").glob("*.smk")).split())
    calls = re.findall(r"exec python \"\$SCRIPTS\"/(\w+)\.py(.*?)(?:--log|> \{log)", text)
    assert len(calls) >= 10
    for script, flags in calls:
        if '"--threads"' in (SCRIPTS / f"{script}.py").read_text():
            assert "--threads {threads}" in flags, script
        if '"--workers"' in (SCRIPTS / f"{script}.py").read_text():
            assert "--workers {threads}" in flags, script
