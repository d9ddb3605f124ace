"""What was trained before: what it took, and whether it is what the configuration asks for now."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.config.jobs import run_settings
from trainyard.config.runs import Run
from trainyard.config.work import read_object, same_data, work_of
from trainyard.dag.jobs import Jobs


@dataclass(frozen=True)
class Measured:
    """What an earlier run took: hours, epochs, and where it ran. `work`: what an epoch cost there hung on; empty where unknown."""

    hours: float
    epochs: int
    host: str
    size_gb: float
    work: str = ""


def measured(results: Path, suite: str, run: str) -> Measured | None:
    """What train.json says; None where there is none, or one of another form."""
    found = read_object(results / suite / "runs" / run / "train.json")
    try:
        info, about, meta = found["train_info"], found.get("run_info") or {}, found.get("meta_info") or {}
        hours, epochs = float(info["seconds"]) / 3600, int(info.get("epochs") or 0)
        if "promoted" in (meta.get("report") or {}):
            # It went on from a short training, whose hours its own include.
            decision = read_object(results / suite / "promotion.json")
            first = int(decision["from_epochs"])
            hours, epochs = hours * (1 - first / int(decision["to_epochs"])), max(0, epochs - first)
        return Measured(hours, epochs, str(about.get("host") or ""), float(info.get("bytes") or 0) / 1e9, work_of(meta.get("settings")))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def is_there(results: Path, suite: str, run: str) -> bool:
    """Whether a run has been trained, as whatever."""
    return (results / suite / "runs" / run / "train.json").exists()


def is_done(jobs: Jobs, results: Path, run: Run) -> bool:
    """Whether a training is there as it is asked for now: with these settings, on these data. Of changed code or files of a person's
    own data only the rules know."""
    if not is_there(results, run.suite, run.name):
        return False
    trained = _settings(results, run)
    asked = run_settings(jobs.config, run) if trained else {}
    same = all(trained.get(key) == value for key, value in asked.items())
    name = jobs.model(run.suite, run.model).dataset
    return same and same_data(jobs.dataset(run.suite, name), results, run.suite, name)


def is_promoted(jobs: Jobs, results: Path, slot: Run) -> bool:
    """The same of a promoted run, whose settings are those of whichever training goes on."""
    if not is_there(results, slot.suite, slot.name):
        return False
    return _settings(results, slot).get("epochs", jobs.promote(slot.suite).to_epochs) == jobs.promote(slot.suite).to_epochs


def _settings(results: Path, run: Run) -> dict[str, Any]:
    """What a run was trained with; nothing where its train.json does not tell."""
    meta = read_object(results / run.suite / "runs" / run.name / "train.json").get("meta_info")
    settings = meta.get("settings") if isinstance(meta, dict) else None
    return settings if isinstance(settings, dict) else {}
