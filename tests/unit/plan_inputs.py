"""What a plan is made of: machines, jobs of the shipped suites, and runs that have been trained before."""

import json
from datetime import UTC, datetime
from pathlib import Path

from trainyard.config.command_line import read_config
from trainyard.config.machines import Machines
from trainyard.dag.jobs import Jobs
from trainyard.plan.problem import Task

HOME = Path(__file__).parents[2]
HOURS = {"emotion_recognizer": 2, "dynamics_engine": 1, "harmony_predictor": 1, "melody_transformer": 3, "groove_predictor": 1}
LATER = datetime(2999, 1, 1, tzinfo=UTC)
MUSIC = [Task("kmidi", name, name, hours, dataset="kmidi/music") for name, hours in HOURS.items()]


def machines(**found: dict) -> Machines:
    return Machines.model_validate({"machines": found})


def jobs_of(*words: str) -> Jobs:
    return Jobs(read_config(HOME, [], list(words)), HOME)


def train(results: Path, suite: str, run: str, hours: float, host: str, epochs: int = 50, ended: datetime = LATER, **more) -> None:
    """A run that has been trained, as its train.json tells."""
    folder = results / suite / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    info = {
        "run_info": {"host": host, "finished": ended.strftime("%Y-%m-%dT%H:%M:%SZ")},
        "train_info": {"seconds": 3600 * hours, "epochs": epochs, "bytes": 0},
        **more,
    }
    (folder / "train.json").write_text(json.dumps(info))
