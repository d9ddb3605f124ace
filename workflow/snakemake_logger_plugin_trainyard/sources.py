"""What is on record of how long a job takes: benchmark tables, train.json, preflights, and what the suites say of their runs."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from snakemake_logger_plugin_trainyard.readable import setting_changes


@dataclass(frozen=True)
class Planned:
    """What the configuration says of a run: hours that its owners state; its model, or those that a promoted run may go on with; how
    much of such a model's time it takes; and whether times of trainings of a kind (work_of) say anything of it."""

    hours: float | None
    models: tuple[str, ...] = ()
    share: float = 1.0
    like: Callable[[str], bool] = field(default=lambda work: True, compare=False)


def planned_runs(config: dict[str, Any], home: str | None, results: Path = Path("results")) -> dict[tuple, Planned]:
    """What the suites say of their runs, by (suite, run); empty where the configuration is not Trainyard's."""
    try:
        from trainyard.config import list_runs, list_slots, load_config
        from trainyard.config.work import same_data

        loaded = load_config(config, Path(home or "."))

        @cache
        def same(suite: str, name: str) -> bool:
            return same_data(loaded.suites[suite].datasets[name], results, suite, name)

        found = {}
        for run in list_runs(loaded) + list_slots(loaded):
            suite = loaded.suites[run.suite]
            models = tuple(dict.fromkeys(r.model for r in run.of or (run,)))
            # A promoted run goes on from where its short training ended.
            share = suite.promote.to_epochs / suite.promote.from_epochs - 1 if run.of and suite.promote else 1.0
            hours = [suite.models[m].hours for m in models]
            known = max((h for h in hours if h), default=None) if all(hours) else None
            found[run.suite, run.name] = Planned(known * share if known else None, models, share, partial(_like, loaded, run, same))
        return found
    except Exception:
        return {}


def _like(config: Any, run: Any, same: Callable[[str, str], bool], work: str) -> bool:
    """Whether the data are the same and the work too, as far as it is known: seconds of the demo are not those of the full scale."""
    from trainyard.config.jobs import run_settings
    from trainyard.config.work import work_of

    if not same(run.suite, config.suites[run.suite].models[run.model].dataset):
        return False
    return not work or work in {work_of(run_settings(config, r)) for r in run.of or (run,)}


def work_of_training(suite: Path, run: str) -> str:
    """The kind of work (work_of) that a training was; empty where that is not known."""
    from trainyard.config.work import read_object, work_of

    meta = read_object(suite / "runs" / run / "train.json").get("meta_info")
    return work_of(meta.get("settings")) if isinstance(meta, dict) else ""


def benchmark_seconds(path: str | None) -> float | None:
    """Mean seconds of Snakemake's benchmark table."""
    if not path:
        return None
    try:
        with open(path, encoding="utf-8", newline="") as file:
            values = [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return sum(values) / len(values) if values else None


def train_seconds(suite: Path, run: str) -> float | None:
    """Seconds that a training took with all its attempts; of a promoted run, those after its short training."""
    try:
        train = _read_json(suite / "runs" / run / "train.json")
        seconds = float(train["train_info"]["seconds"])
        if "promoted" not in train.get("meta_info", {}).get("report", {}):
            return seconds
        decision = _read_json(suite / "promotion.json")
        return seconds * (1 - decision["from_epochs"] / decision["to_epochs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def foreseen_seconds(preflight: Path, like: Callable[[str], bool]) -> tuple[float, float] | None:
    """Seconds, low and high, that a preflight of such work measured a training to need on this machine."""
    try:
        report = _read_json(preflight)
        if not like(str(report.get("work") or "")):
            return None
        prediction = report["prediction"]
        return 60 * float(prediction["low"]), 60 * float(prediction["high"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def more_epochs(why: str) -> float:
    """How much longer a job takes because its number of epochs changed."""
    for name, before, after in setting_changes(why):
        if name == "epochs" and re.fullmatch(r"\d+", before) and re.fullmatch(r"\d+", after) and int(before):
            return int(after) / int(before)
    return 1.0


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
