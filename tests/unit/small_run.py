"""A real training of a tiny model as a command of its own, to be stopped, killed and starved; data and settings are the kill harness's."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(__file__).parents[2]
TRAIN = HOME / "workflow" / "scripts" / "train_model.py"
_spec = importlib.util.spec_from_file_location("killed_training", HOME / "benchmarks" / "killed_training.py")
killed_training = importlib.util.module_from_spec(_spec)
sys.modules["killed_training"] = killed_training
_spec.loader.exec_module(killed_training)
RESULTS = killed_training.RESULTS


def job(**changed) -> dict:
    sparing = {"every_epochs": 0, "every_steps": 60, "every_minutes": 0, "keep": 2}
    return {**killed_training.JOB, "epochs": 12, "checkpoint": sparing, **changed}


class SmallRun:
    """A training below `folder`; its packs are beside it, so that several share them."""

    def __init__(self, packs: dict[str, str], folder: Path, **changed):
        self.packs, self.folder, self.settings = packs, folder, job(**changed)
        folder.mkdir(parents=True, exist_ok=True)

    def command(self, *more: str) -> list[str]:
        return [
            sys.executable, str(TRAIN), "--settings", json.dumps(self.settings), "--train", self.packs["train"],
            "--validation", self.packs["validation"], "--test", self.packs["test"], "--checkpoints", str(self.folder / "checkpoints"),
            "--output", str(self.folder / "out"), "--device", "cpu", *more,
        ]  # fmt: skip

    def call(self, *more: str, **variables: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, **variables}
        return subprocess.run(self.command(*more), capture_output=True, text=True, timeout=180, env=environment)

    def start(self, *more: str, **keywords) -> subprocess.Popen:
        return subprocess.Popen(self.command(*more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)

    def results(self) -> list[bytes]:
        return [(self.folder / "out" / name).read_bytes() for name in RESULTS]

    def progress(self) -> dict:
        try:
            return json.loads((self.folder / "checkpoints" / "progress.json").read_text())
        except FileNotFoundError:
            return {}

    def wait_past(self, step: int) -> dict:
        """Wait until the heartbeat is past a step; what it says."""
        for _ in range(3000):
            if (found := self.progress()).get("step", -1) > step:
                return found
            time.sleep(0.02)
        raise AssertionError(f"never got past step {step}")
