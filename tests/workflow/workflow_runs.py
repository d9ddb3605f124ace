"""Running the real workflow in a folder of its own, at toy size."""

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

HOME = Path(__file__).parents[2]


def snakemake(folder: Path, *args: str, home: Path = HOME, config: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Call snakemake on the repository's Snakefile, working in `folder`."""
    command = [sys.executable, "-m", "snakemake", "-s", str(home / "Snakefile"), "-d", str(folder), "--cores", "2"]
    command += ["--workflow-profile", str(home / "profiles" / "default"), *args]
    if config:
        command += ["--config", *config]
    environment = {**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=900)


def summary(folder: Path) -> dict:
    return json.loads((folder / "results" / "summary.json").read_text())


def started(call: subprocess.CompletedProcess) -> list[str]:
    """Rule and run of every job that a call started, as its progress lines say."""
    return sorted(" ".join(found.split()) for found in re.findall(r"^\S+ start +(.*)$", call.stdout + call.stderr, re.M))


def jobs_of(folder: Path, *states: str) -> Counter:
    """Rule and run of the jobs of the last call that ended in one of these states."""
    return Counter((j["rule"], j.get("run") or "") for j in summary(folder)["jobs"] if j["state"] in states)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
