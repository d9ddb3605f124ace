"""Runs and models of a suite from comparison.json (else .csv), metrics.json, train.json, history.csv and progress.json."""

import re
from pathlib import Path
from typing import Any

from trainyard.report.gather import gathered_as, merge_of, merged_run
from trainyard.report.loose import Loose, inner, listed, number, objects, whole, words
from trainyard.report.views.runs import Difference, History, Model, Run, Score

# What a model says of its own training, for people.
SAID = {"rows_too_long": "rows longer than max_length, left out whole", "packing": "packed"}


def read_models(files: Loose, suite: str, folder: Path, checkpoints: Path | None, jobs: list[dict[str, Any]]) -> list[Model]:
    """Every model that comparison, runs folder or the summary's jobs name, in the comparison's order."""
    compared = files.object(folder / "comparison.json")
    table = objects(compared, "rows") or files.rows(folder / "comparison.csv")
    states = _job_states(jobs)
    names: dict[str, str] = {}  # run → model, in order of appearance
    for row in table:
        if row.get("run"):
            names.setdefault(str(row["run"]), str(row.get("model") or ""))
    for path in sorted(p for p in (folder / "merged").glob("*") if (p / "metrics.json").exists()):
        # A model's merged adapter is a model of its own here: it must not be averaged with its shards.
        names.setdefault(merged_run(path.name), gathered_as(merged_run(path.name)))
    for path in sorted((folder / "runs").glob("*")):
        if path.is_dir() and any(path.iterdir()):
            names.setdefault(path.name, gathered_as(path.name))
    for name in states:
        names.setdefault(name, gathered_as(name))
    runs = [_read_run(files, suite, name, model, folder, checkpoints, table, states.get(name, {})) for name, model in names.items()]
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(run.model, []).append(run)
    return [_gather(suite, name, tuple(sorted(of_model, key=_natural)), table) for name, of_model in models.items()]


def _natural(run: Run) -> list[str]:
    """Sorts fold2 before fold10."""
    return [part.zfill(12) if part.isdigit() else part for part in re.split(r"(\d+)", run.name)]


def _job_states(jobs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The job that says most of each run: its training, or the first that failed."""
    best: dict[str, dict[str, Any]] = {}
    for job in jobs:
        run, rule = str(job.get("run") or ""), str(job.get("rule") or "")
        if not run or not (rule.startswith("train") or rule in ("evaluate_model", "fit_baselines", "run_script")):
            continue
        if (
            run not in best
            or job.get("state") == "failed"
            and best[run].get("state") != "failed"
            or rule.startswith("train")
            and best[run].get("state") != "failed"
        ):
            best[run] = job
    return best


def _read_run(
    files: Loose,
    suite: str,
    name: str,
    model: str,
    folder: Path,
    checkpoints: Path | None,
    table: list[dict[str, Any]],
    job: dict[str, Any],
) -> Run:
    merge = merge_of(name)
    merged = folder / "merged" / merge
    place = merged if merge and merged.is_dir() else folder / "runs" / name
    metrics = files.object(place / "metrics.json")
    train = files.object(place / "train.json")
    run_info = inner(metrics, "run_info") or inner(train, "run_info")
    train_info = {**inner(train, "train_info"), **inner(metrics, "train_info")}
    meta = inner(metrics, "meta_info") or inner(train, "meta_info")
    model = gathered_as(name) if merge else str(metrics.get("model") or model)
    row = next((r for r in table if r.get("run") == name), {})
    progress = files.object(checkpoints / suite / name / "progress.json") if checkpoints else {}
    kept = whole(train_info.get("epochs" if train_info.get("selected") == "last" else "best_epoch"))
    head, said = inner(metrics, "headline"), inner(meta, "report")
    scores = tuple(_score(suite, model, name, m) for m in objects(metrics, "metrics"))
    state = str(
        row.get("state") or job.get("state") or metrics.get("state") or ("done" if scores else "running" if progress else "missing")
    )
    if job.get("state") == "failed":  # a run may have failed after an older one was compared
        state = "failed"
    return Run(
        suite=suite,
        name=name,
        model=model,
        state=state,
        reason=str(row.get("reason") or job.get("reason") or ""),
        log=str(job.get("log") or row.get("log") or ""),
        attempts=whole(job.get("attempts")),
        seconds=number(train_info.get("seconds"))
        if number(train_info.get("seconds")) is not None
        else number(row.get("seconds") or job.get("seconds")),
        machine=str(run_info.get("host") or job.get("machine") or ""),
        parameters=whole(train_info.get("parameters") or row.get("parameters")),
        bytes=whole(train_info.get("bytes") or row.get("bytes")),
        epochs=whole(train_info.get("epochs")),
        best_epoch=whole(train_info.get("best_epoch")),
        kept_epoch=kept,
        steps=whole(train_info.get("steps")),
        settings=inner(meta, "settings"),
        info=run_info,
        scores=scores or tuple(_table_score(r) for r in table if r.get("run") == name and number(r.get("value")) is not None),
        history=_history(files, place / "history.csv", kept),
        progress=progress,
        raw=metrics if scores else {},
        headline=tuple(str(head.get(k)) for k in ("split", "part", "metric")) if head else None,  # type: ignore[arg-type]
        notes=tuple(words(n) for n in listed(metrics, "notes")) + tuple(f"{SAID.get(k, k)}: {words(v)}" for k, v in said.items()),
    )


def _history(files: Loose, path: Path, best: int | None) -> History | None:
    rows = files.rows(path)
    epochs = [number(r.get("epoch")) for r in rows]
    keep = [i for i, e in enumerate(epochs) if e is not None]
    if not keep:
        return None
    column = lambda name: tuple(number(rows[i].get(name)) for i in keep)  # noqa: E731
    return History(tuple(epochs[i] or 0.0 for i in keep), column("train_loss"), column("validation_loss"), best)


def _score(suite: str, model: str, run: str, m: dict[str, Any]) -> Score:
    trivial, simple = inner(m, "trivial"), inner(m, "simple")
    return Score(
        suite,
        model,
        run,
        str(m.get("part") or ""),
        str(m.get("split") or ""),
        str(m.get("metric") or ""),
        number(m.get("value")),
        number(m.get("ci_low")),
        number(m.get("ci_high")),
        str(m.get("direction") or "max"),
        str(m.get("kind") or ""),
        whole(m.get("n")),
        whole(m.get("groups")),
        trivial_name=str(trivial.get("name") or ""),
        trivial=number(trivial.get("value")),
        simple_name=str(simple.get("name") or ""),
        simple=number(simple.get("value")),
        vs_trivial=difference(m.get("vs_trivial")),
        vs_simple=difference(m.get("vs_simple")),
    )


def difference(value: Any) -> Difference | None:
    if not isinstance(value, dict) or number(value.get("difference")) is None and number(value.get("p_better")) is None:
        return None
    return Difference(*(number(value.get(k)) for k in ("difference", "ci_low", "ci_high", "p_better")))


def _table_score(row: dict[str, Any]) -> Score:
    """A row of comparison.json, or of comparison.csv, which lacks the intervals of the differences."""
    value, trivial, simple = (number(row.get(k)) for k in ("value", "baseline", "simple"))
    direction = str(row.get("direction") or "max")
    sign = 1 if direction == "max" else -1

    def against(level: str, other: float | None) -> Difference | None:
        if found := difference(row.get(f"vs_{level}")):
            return found
        return (
            Difference(sign * (value - other), p_better=number(row.get(f"p_better_{level}")))
            if value is not None and other is not None
            else None
        )

    named = {k: str(row.get(k) or "") for k in ("suite", "model", "run", "part", "split", "metric")}
    return Score(
        **named,
        value=value,
        low=number(row.get("ci_low")),
        high=number(row.get("ci_high")),
        direction=direction,
        kind=str(row.get("kind") or ""),
        n=whole(row.get("n")),
        groups=whole(row.get("groups")),
        runs=whole(row.get("runs")) or 1,
        spread=number(row.get("spread")),
        basis=str(row.get("interval") or ""),
        trivial_name=str(row.get("trivial_name") or ""),
        trivial=trivial,
        simple_name=str(row.get("simple_name") or ""),
        simple=simple,
        vs_trivial=against("trivial", trivial),
        vs_simple=against("simple", simple),
    )


def _gather(suite: str, name: str, runs: tuple[Run, ...], table: list[dict[str, Any]]) -> Model:
    """The model's scores: its only run's, or those of its runs gathered, as the comparison does it."""
    done = [r for r in runs if r.scores]
    raw = [r.raw for r in done if r.raw]
    own = [r for r in table if r.get("model") == name]
    gathered = [r for r in own if not r.get("run") and number(r.get("value")) is not None]
    if len(runs) == 1:
        scores = list(runs[0].scores)
    elif gathered and not any(merge_of(str(r.get("run") or "")) and gathered_as(str(r["run"])) != name for r in own) or not raw:
        scores = [_table_score(r) for r in gathered]
    else:
        from trainyard.report.gather import gathered_rows

        scores = [_table_score(row) for row in gathered_rows(suite, name, raw, len(runs), [])]
    failed = next((r for r in runs if r.state == "failed"), next((r for r in runs if r.state != "done"), None))
    return Model(suite, name, runs, tuple(scores), _headline(scores, runs), failed.reason if failed else "", failed.log if failed else "")


def _headline(scores: list[Score], runs: tuple[Run, ...]) -> Score | None:
    """The score that the runs name as their headline; else the first of the test split."""
    wanted = next((r.headline for r in runs if r.headline), None)
    found = next((s for s in scores if (s.split, s.part, s.metric) == wanted), None)
    return found or next((s for s in scores if s.split == "test"), scores[0] if scores else None)
