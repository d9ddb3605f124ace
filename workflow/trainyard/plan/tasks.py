"""The runs of a configuration as tasks, with hours from earlier runs, else from their owners' word, else from preflight."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainyard.config.machines import labels_of
from trainyard.dag.jobs import Jobs
from trainyard.data.files import read_json
from trainyard.plan.problem import Task

# How far off each source was found to be, as factors on its figure.
RANGE = {"earlier": (0.8, 1.25), "stated": (0.6, 1.6), "preflight": (0.6, 1.8), "limit": (0.02, 1.0)}
MERGE_HOURS = 1 / 60
ADAM = 3  # a checkpoint holds weights and two moments
Rate = Callable[[str, tuple[str, ...]], float]  # speed of a host, for a run with these names


@dataclass(frozen=True)
class Measured:
    """What an earlier run took: hours, epochs, and where it ran."""

    hours: float
    epochs: int
    host: str
    size_gb: float


def measured(results: Path, suite: str, run: str) -> Measured | None:
    """What train.json says; None where there is none, or one of another form."""
    found = _json(results / suite / "runs" / run / "train.json")
    try:
        info, about = found["train_info"], found.get("run_info") or {}
        hours, epochs = float(info["seconds"]) / 3600, int(info.get("epochs") or 0)
        if "promoted" in ((found.get("meta_info") or {}).get("report") or {}):
            # It went on from a short training, whose hours its own include.
            decision = _json(results / suite / "promotion.json")
            first = int(decision["from_epochs"])
            hours, epochs = hours * (1 - first / int(decision["to_epochs"])), max(0, epochs - first)
        return Measured(hours, epochs, str(about.get("host") or ""), float(info.get("bytes") or 0) / 1e9)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def list_tasks(jobs: Jobs, results: Path, rate: Rate = lambda host, labels: 1.0, done: bool = False) -> list[Task]:
    """A task for every training, promoted run, found script and merge. `rate` turns hours measured somewhere into those of speed 1.

    Without `done`, runs whose outputs are there are left out: what is planned is what is still to do.
    """
    tasks: list[Task] = []
    finished: set[str] = set()
    for run in jobs.runs:
        if not done and is_done(results, run.suite, run.name):
            finished.add(f"{run.suite}/{run.name}")
            continue
        tasks.append(_training(jobs, results, run, rate))
    for slot in jobs.slots:
        if done or not is_done(results, slot.suite, slot.name):
            tasks.append(_promoted(jobs, results, slot, [_training(jobs, results, run, rate) for run in slot.of], finished, rate))
    for script in jobs.scripts:
        if not done and is_done(results, script.suite, script.name):
            continue
        discover = jobs.discover(script.suite)
        stated = (discover.hours, "stated") if discover.hours else (discover.minutes / 60, "limit")
        hours, source = _earlier(results, script.suite, script.name, script.name, 0, rate) or stated
        tasks.append(_ranged(Task(script.suite, script.name, script.name, hours, source, memory_gb=1.5, save_hours=hours)))
    for suite in jobs.active_suites():
        for name in jobs.merges_of(suite):
            if done or not (results / suite / "merged" / name / "accepted.json").exists():
                shards = jobs.merges[suite, name]
                waits = tuple(path for r in shards if (path := f"{suite}/{r.name}") not in finished)
                tasks.append(Task(suite, shards[0].merged, shards[0].model, MERGE_HOURS, "merge", 0.5, 3.0, after=waits, light=True))
    return tasks


def is_done(results: Path, suite: str, run: str) -> bool:
    return (results / suite / "runs" / run / "train.json").exists()


def _training(jobs: Jobs, results: Path, run: Any, rate: Rate) -> Task:
    model = jobs.model(run.suite, run.model)
    data = data_gb(results, run.suite, model.dataset) or jobs.dataset(run.suite, model.dataset).stated.gigabytes or 0.0
    parts = max(1, jobs.dataset(run.suite, model.dataset).shards) if run.shard else 1
    known = _earlier(results, run.suite, run.name, run.model, model.epochs, rate) or _alike(jobs, results, run, rate)
    if known is None and model.hours:
        known = model.hours, "stated"
    hours, source = known or predicted(results, run.suite, run.model) or (model.runtime / 60, "limit")
    before = measured(results, run.suite, run.name)
    size = before.size_gb if before else 0.0
    save = model.checkpoint
    between = [hours * save.every_epochs / model.epochs] if save.every_epochs else []
    between += [save.every_minutes / 60] if save.every_minutes else []
    between += [hours * min(1.0, save.every_steps / _steps(jobs, results, run))] if save.every_steps else []
    stated = model.stated
    task = _ranged(Task(
        run.suite, run.name, run.model, hours, source, dataset=f"{run.suite}/{model.dataset}", data_gb=data / parts,
        memory_gb=model.mem_mb / 1000, gpus=model.gpu, threads=model.threads, epochs=model.epochs,
        output_gb=size * (1 + ADAM * (save.keep + 1)), save_hours=min(between, default=hours),
        stated_on_gpu=stated.gpu and source == "stated", raw_hours=stated.raw_hours,
    ))  # fmt: skip
    if source == "stated" and stated.hours_range:
        return replace(task, low=stated.hours_range[0] / hours, high=stated.hours_range[1] / hours)
    return task


def _steps(jobs: Jobs, results: Path, run: Any) -> float:
    """Optimiser steps of a training, from the samples that are known to be there; where none are, ten times those between two saves."""
    model = jobs.model(run.suite, run.model)
    dataset = jobs.dataset(run.suite, model.dataset)
    counted = _json(results / run.suite / "data" / model.dataset / "splits.json").get("splits")
    train = counted.get("train", {}).get("samples") if isinstance(counted, dict) else None
    generated = dataset.generate.get("rows") if not dataset.root else None
    samples = train if isinstance(train, int) and train > 0 else generated
    if not isinstance(samples, int):
        return 10.0 * model.checkpoint.every_steps
    parts = max(1, dataset.shards) if run.shard else 1
    return max(1.0, model.epochs * samples / parts / (model.batch_size * model.accumulate))


def _promoted(jobs: Jobs, results: Path, slot: Any, candidates: list[Task], finished: set[str], rate: Rate) -> Task:
    """A promoted run, which may be any of several: as long and as large as the most of them, for the epochs that are left."""
    promote = jobs.promote(slot.suite)
    longest = max(candidates, key=lambda t: t.hours)
    epochs = promote.to_epochs - promote.from_epochs
    task = replace(
        longest, run=slot.name, model=slot.gathered, hours=longest.hours * epochs / promote.from_epochs, epochs=epochs,
        low=0.5 * longest.low, memory_gb=max(t.memory_gb for t in candidates), gpus=max(t.gpus for t in candidates),
        raw_hours=None, after=tuple(t.path for t in candidates if t.path not in finished),
    )  # fmt: skip
    before = _earlier(results, slot.suite, slot.name, slot.gathered, epochs, rate)
    return _ranged(replace(task, hours=before[0], source=before[1], stated_on_gpu=False)) if before else task


def _ranged(task: Task) -> Task:
    low, high = RANGE[task.source]
    return replace(task, low=low, high=high)


def _earlier(results: Path, suite: str, run: str, model: str, epochs: int, rate: Rate) -> tuple[float, str] | None:
    """Hours at speed 1 of the same run before, for the epochs it has now."""
    before = measured(results, suite, run)
    if before is None or before.hours <= 0:
        return None
    more = epochs / before.epochs if epochs and before.epochs else 1.0
    return before.hours * more * rate(before.host, labels_of(suite, model, run)), "earlier"


def _alike(jobs: Jobs, results: Path, run: Any, rate: Rate) -> tuple[float, str] | None:
    """Hours of the model's other folds, shards or seeds."""
    epochs = jobs.model(run.suite, run.model).epochs
    others = [r.name for r in jobs.runs if (r.suite, r.model) == (run.suite, run.model) and r.name != run.name]
    found = [e[0] for e in (_earlier(results, run.suite, name, run.model, epochs, rate) for name in others) if e]
    return (sum(found) / len(found), "earlier") if found else None


def predicted(results: Path, suite: str, model: str) -> tuple[float, str] | None:
    """Hours that a model's preflight predicts, for the machine that it ran on."""
    prediction = _json(results / suite / "preflight" / f"{model}.json").get("prediction")
    minutes = prediction.get("minutes") if isinstance(prediction, dict) else None
    return (float(minutes) / 60, "preflight") if isinstance(minutes, int | float) and minutes > 0 else None


def data_gb(results: Path, suite: str, dataset: str) -> float:
    """GB of a data set's packs, as far as they are made."""
    folder = results / suite / "packs" / dataset
    return sum(f.stat().st_size for f in folder.glob("*") if f.is_file()) / 1e9 if folder.is_dir() else 0.0


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
