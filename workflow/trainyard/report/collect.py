"""Reads a results folder into one Report. Any file may be absent: what is there is shown, what is broken is listed."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainyard.report.loose import Loose, moment, number, objects, whole
from trainyard.report.read_data import read_datasets, read_preflights
from trainyard.report.read_merges import read_merges
from trainyard.report.read_more import read_attention, read_promotion
from trainyard.report.read_plan import read_plan
from trainyard.report.read_predictions import read_tallies
from trainyard.report.read_runs import read_models
from trainyard.report.views.whole import Job, Report, Suite

ORDER = ("kmidi", "crescendai", "mono_to_3d", "housebrain", "aimedres")
PARTS = ("comparison.csv", "comparison.json", "runs", "data", "packs", "preflight", "merged")

IDLE = 120.0  # seconds without any job: another call of snakemake


def collect(results: Path, checkpoints: Path | None = None, partial: bool = False, only: Sequence[str] = ()) -> Report:
    """The report of all suites there are, or of those named. Raises ValueError when the folder holds no suite and no summary."""
    files = Loose(results)
    summary = files.object(results / "summary.json")
    listed = objects(summary, "jobs")
    folders = {p.name for p in results.glob("*") if p.is_dir() and any((p / part).exists() for part in PARTS)}
    names = folders | {str(j["suite"]) for j in listed if j.get("suite")}
    if not names and not summary:
        raise ValueError(f"{results}: no results here: expected a folder for each suite (comparison.csv, runs/) or summary.json")
    if only:
        names &= set(only)
        listed = [j for j in listed if not j.get("suite") or j["suite"] in names]
    ordered = [n for n in ORDER if n in names] + sorted(names - set(ORDER))
    suites = tuple(_suite(files, n, results / n, checkpoints, [j for j in listed if j.get("suite") == n]) for n in ordered)
    jobs, idle = read_jobs(listed)
    return Report(
        suites=suites,
        jobs=jobs,
        idle=idle,
        state=str(summary.get("state") or ""),
        started=str(summary.get("started") or ""),
        finished=str(summary.get("finished") or ""),
        command=_command(summary.get("command")),
        built=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        plan=read_plan(files, results, [r for s in suites for m in s.models for r in m.runs]),
        partial=partial,
        problems=tuple(files.problems),
    )


def _suite(files: Loose, name: str, folder: Path, checkpoints: Path | None, jobs: list[dict[str, Any]]) -> Suite:
    models = read_models(files, name, folder, checkpoints, jobs)
    title = files.object(folder / "comparison.json").get("title")
    return Suite(
        name,
        title=str(title or ""),
        models=tuple(models),
        datasets=tuple(read_datasets(files, name, folder)),
        preflights=tuple(read_preflights(files, name, folder)),
        merges=tuple(read_merges(files, name, folder, models)),
        tallies=tuple(read_tallies(files, name, folder, models)),
        promotion=read_promotion(files, folder),
        attention=tuple(read_attention(files, folder, models)),
    )


def _command(value: Any) -> str:
    """The command as it was typed, without the place of the program."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    program, space, rest = text.partition(" ")
    return program.rsplit("/", 1)[-1] + space + rest


def read_jobs(listed: list[dict[str, Any]]) -> tuple[tuple[Job, ...], tuple[tuple[float, float], ...]]:
    """The summary's jobs by start, and the idle times between two calls of snakemake, which are cut out of their times."""
    spans = [_span(job) for job in listed]
    known = sorted(s for s in spans if s is not None)
    zero, idle, covered = (known[0][0] if known else 0.0), [], -math.inf
    for start, end in known:
        if start - covered > IDLE and covered > -math.inf:
            idle.append((covered, start - covered))
        covered = max(covered, end)

    def moved(at: float) -> float:
        return at - zero - sum(length for when, length in idle if when < at)

    jobs = [
        Job(
            rule=str(job.get("rule") or "?"),
            suite=str(job.get("suite") or ""),
            run=str(job.get("run") or ""),
            state=str(job.get("state") or "unknown"),
            timed=span is not None,
            start=moved(span[0]) if span else 0.0,
            end=moved(span[1]) if span else 0.0,
            attempts=whole(job.get("attempts")),
            seconds=number(job.get("seconds")),
            machine=str(job.get("machine") or ""),
            reason=str(job.get("reason") or ""),
            log=str(job.get("log") or ""),
        )
        for job, span in zip(listed, spans)
    ]
    return tuple(sorted(jobs, key=lambda j: (not j.timed, j.start))), tuple((moved(when), length) for when, length in idle)


def _span(job: dict[str, Any]) -> tuple[float, float] | None:
    """Start and end in seconds since 1970; None for a job that has no end yet."""
    start, end, seconds = moment(job.get("started")), moment(job.get("finished")), number(job.get("seconds"))
    if start is None:
        return None
    if seconds is not None and (end is None or end - start <= 2):  # the summary's times are whole seconds; its durations are finer
        end = start + seconds
    return None if end is None else (start, max(start, end))
