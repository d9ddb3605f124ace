"""The runs of a configuration as tasks, with hours from earlier runs, else from their owners' word, else from preflight."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainyard.config.jobs import run_settings
from trainyard.config.machines import labels_of
from trainyard.config.work import GUESS, read_object, same_data, work_of
from trainyard.dag.jobs import Jobs
from trainyard.plan.earlier import Measured, is_done, is_promoted, is_there, measured
from trainyard.plan.problem import Task

# How far off each source was found to be, as factors on its figure.
RANGE = {"earlier": (0.8, 1.25), "stated": (0.6, 1.6), "preflight": (0.6, 1.8), "limit": (0.02, 1.0)}
MERGE_HOURS = 1 / 60
ADAM = 3  # a checkpoint holds weights and two moments
Rate = Callable[[str, tuple[str, ...]], float]  # speed of a host, for a run with these names


def list_tasks(jobs: Jobs, results: Path, rate: Rate = lambda host, labels: 1.0, done: bool = False) -> list[Task]:
    """A task for every training, promoted run, found script and merge. `rate` turns hours measured somewhere into those of speed 1.

    Without `done`, runs whose outputs are there as they are asked for now are left out: what is planned is what is still to do.
    """
    tasks: list[Task] = []
    finished: set[str] = set()
    for run in jobs.runs:
        if not done and is_done(jobs, results, run):
            finished.add(run.path)
            continue
        tasks.append(_training(jobs, results, run, rate))
    for slot in jobs.slots:
        if done or any(r.path not in finished for r in slot.of) or not is_promoted(jobs, results, slot):
            tasks.append(_promoted(jobs, results, slot, [_training(jobs, results, run, rate) for run in slot.of], finished, rate))
    for script in jobs.scripts:
        if not done and is_there(results, script.suite, script.name):
            continue
        discover = jobs.discover(script.suite)
        stated = (discover.hours, "stated") if discover.hours else (discover.minutes / 60, GUESS)
        hours, source = _earlier(measured(results, script.suite, script.name), (script.suite, script.name, script.name), 0, rate) or stated
        tasks.append(_ranged(Task(
            script.suite, script.name, script.name, hours, source, memory_gb=discover.mem_mb / 1000, threads=discover.threads,
            save_hours=hours,
        )))  # fmt: skip
    for suite in jobs.active_suites():
        for name in jobs.merges_of(suite):
            shards = jobs.merges[suite, name]
            waits = tuple(r.path for r in shards if r.path not in finished)
            if done or waits or not (results / suite / "merged" / name / "accepted.json").exists():
                tasks.append(Task(suite, shards[0].merged, shards[0].model, MERGE_HOURS, "merge", 0.5, 3.0, after=waits, light=True))
    return tasks


def _training(jobs: Jobs, results: Path, run: Any, rate: Rate) -> Task:
    model = jobs.model(run.suite, run.model)
    same = same_data(jobs.dataset(run.suite, model.dataset), results, run.suite, model.dataset)
    data = (data_gb(results, run.suite, model.dataset) if same else 0.0) or jobs.dataset(run.suite, model.dataset).stated.gigabytes or 0.0
    parts = max(1, jobs.dataset(run.suite, model.dataset).shards) if run.shard else 1
    work = work_of(run_settings(jobs.config, run))
    before = _like(measured(results, run.suite, run.name), work) if same else None
    known = _earlier(before, labels_of(run.suite, run.model, run.name), model.epochs, rate)
    if known is None and same:
        known = _alike(jobs, results, run, work, rate)
    if known is None and model.hours:
        known = model.hours, "stated"
    if known is None and same:
        known = predicted(results, run.suite, run.model, work, model.epochs)
    hours, source = known or (model.runtime / 60, GUESS)
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
        stated_on_gpu=stated.gpu and source == "stated", raw_hours=stated.raw_hours, work=work,
    ))  # fmt: skip
    if source == "stated" and stated.hours_range:
        return replace(task, low=stated.hours_range[0] / hours, high=stated.hours_range[1] / hours)
    return task


def _steps(jobs: Jobs, results: Path, run: Any) -> float:
    """Optimiser steps of a training, from the samples that are known to be there; where none are, ten times those between two saves."""
    model = jobs.model(run.suite, run.model)
    dataset = jobs.dataset(run.suite, model.dataset)
    counted = read_object(results / run.suite / "data" / model.dataset / "splits.json").get("splits")
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
        raw_hours=None, after=tuple(t.path for t in candidates if t.path not in finished), work="",
    )  # fmt: skip
    taken = _like(measured(results, slot.suite, slot.name), *(t.work for t in candidates))
    before = _earlier(taken, labels_of(slot.suite, slot.gathered, slot.name), epochs, rate)
    return _ranged(replace(task, hours=before[0], source=before[1], stated_on_gpu=False)) if before else task


def _ranged(task: Task) -> Task:
    low, high = RANGE[task.source]
    return replace(task, low=low, high=high)


def _like(before: Measured | None, *works: str) -> Measured | None:
    """What an earlier run took, if its epochs were of one of these kinds, as far as is known: hours of the demo are not those of the
    full scale."""
    return before if before and (not before.work or before.work in works) else None


def _earlier(before: Measured | None, labels: tuple[str, ...], epochs: int, rate: Rate) -> tuple[float, str] | None:
    """Hours at speed 1 of what a run took before, for the epochs it has now."""
    if before is None or before.hours <= 0:
        return None
    more = epochs / before.epochs if epochs and before.epochs else 1.0
    return before.hours * more * rate(before.host, labels), "earlier"


def _alike(jobs: Jobs, results: Path, run: Any, work: str, rate: Rate) -> tuple[float, str] | None:
    """Hours of the model's other folds, shards or seeds."""
    epochs = jobs.model(run.suite, run.model).epochs
    names = [r.name for r in jobs.runs if (r.suite, r.model) == (run.suite, run.model) and r.name != run.name]
    taken = ((_like(measured(results, run.suite, name), work), labels_of(run.suite, run.model, name)) for name in names)
    found = [hours[0] for before, labels in taken if (hours := _earlier(before, labels, epochs, rate))]
    return (sum(found) / len(found), "earlier") if found else None


def predicted(results: Path, suite: str, model: str, work: str, epochs: int) -> tuple[float, str] | None:
    """Hours that a model's preflight predicts for so many epochs, on the machine that it ran on; None where it was of other `work`."""
    report = read_object(results / suite / "preflight" / f"{model}.json")
    prediction, of, then = report.get("prediction"), report.get("work"), report.get("epochs")
    minutes = prediction.get("minutes") if isinstance(prediction, dict) and of in (None, work) else None
    if not isinstance(minutes, int | float) or not minutes > 0:
        return None
    return minutes / 60 * (epochs / then if isinstance(then, int) and then > 0 else 1), "preflight"


def data_gb(results: Path, suite: str, dataset: str) -> float:
    """GB of a data set's packs, as far as they are made."""
    folder = results / suite / "packs" / dataset
    return sum(f.stat().st_size for f in folder.glob("*") if f.is_file()) / 1e9 if folder.is_dir() else 0.0
