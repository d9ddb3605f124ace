"""A script somebody has, written to a file and called as the workflow calls it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "workflow" / "scripts" / "run_script.py"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def launch(script: Path, folder: Path, **settings):
    settings = {"suite": "aimedres", "run": script.stem, "minutes": 1, **settings}
    return subprocess.Popen(
        [sys.executable, COMMAND, "--script", script, "--settings", json.dumps(settings), "--output", folder / "run",
         "--log", folder / "logs" / "x.log"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
