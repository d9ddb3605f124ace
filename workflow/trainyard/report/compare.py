"""All runs of a suite beside each other: a row a run and metric, and over a model's folds, seeds and shards their mean.

Reads metrics.json files alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainyard.data.files import read_json
from trainyard.report.gather import gathered_as, gathered_rows, run_row
from trainyard.report.intervals import SURE

COLUMNS = (
    "suite", "model", "part", "split", "metric", "value", "ci_low", "ci_high", "direction", "baseline", "n", "seconds", "parameters",
    "bytes", "run", "runs", "spread", "simple", "trivial_name", "simple_name", "p_better_trivial", "p_better_simple", "state", "reason",
)  # fmt: skip
BEFORE_RUNS = "an earlier step failed"


class ComparisonError(ValueError):
    """Metrics that cannot be compared: which file, what to do."""


def compare(suite: str, paths: Sequence[Path], expected: Sequence[dict[str, str]] = (), summary: dict[str, Any] | None = None,
            partial: bool = False) -> dict[str, Any]:  # fmt: skip
    """The content of comparison.json: `rows` (keys of COLUMNS and more), `models` and `notes`.

    `expected` names every run with its model; what has no metrics becomes a row with state failed or missing and the
    reason that `summary` (summary.json) knows. Without `partial` a file that is not there is an error.
    """
    runs: dict[str, dict[str, Any]] = {}
    for path in paths:
        if partial and not path.exists():
            continue
        found = _read(path)
        if found["suite"] != suite:
            raise ComparisonError(f"{path}: belongs to suite {found['suite']}, not {suite}")
        runs[found["run"]] = found
    jobs = _jobs(summary, suite) if partial else {}
    models: dict[str, list[str]] = {}
    for entry in expected or list(runs.values()):
        models.setdefault(gathered_as(entry["run"]), []).append(entry["run"])
    if not partial and expected:
        absent = [e["run"] for e in expected if e["run"] not in runs]
        if absent:
            raise ComparisonError(f"{suite}: no metrics of {', '.join(absent)}; give --partial to compare without them")
    rows, sections = [], []
    for model, names in models.items():
        own, section = _model_rows(suite, model, names, runs, jobs)
        rows += own
        sections.append(section)
    notes = [f"{section['model']}: {note}" for section in sections for note in section["notes"]]
    return {"suite": suite, "rows": rows, "models": sections, "notes": notes}


def _model_rows(suite: str, model: str, names: list[str], runs: dict, jobs: dict) -> tuple[list[dict], dict[str, Any]]:
    done, absent, rows = [], {}, []
    for name in names:
        job = jobs.get(name, {})
        if name in runs and job.get("state") != "failed":
            done.append(runs[name])
        else:
            # Metrics of an earlier success may still lie there when the run has failed since.
            absent[name] = (
                "failed" if job.get("state") == "failed" else "missing",
                str(job.get("reason") or jobs.get("", {}).get("reason") or "has not run"),
            )
    singles = [run_row(suite, model, run, metric) for run in done for metric in run["metrics"]]
    gathered = gathered_rows(suite, model, done, len(names), list(absent)) if len(names) > 1 else []
    lost = [_lost(suite, model, name, state, reason) for name, (state, reason) in absent.items()]
    silent = [
        _lost(suite, model, run["run"], "done", "; ".join(run.get("notes", [])) or "reported no metrics")
        for run in done
        if not run["metrics"]
    ]
    rows = gathered + singles + silent + lost
    headline = _headline(done, gathered or singles)
    notes = _notes(headline, done, absent, len(names))
    return rows, {
        "model": model,
        "runs": names,
        "done": [r["run"] for r in done],
        "headline": headline,
        "verdict": verdicts(headline),
        "notes": notes,
    }


def _lost(suite: str, model: str, run: str, state: str, reason: str) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS), "suite": suite, "model": model, "run": run, "runs": 0, "state": state, "reason": reason}


def _headline(done: list[dict], rows: list[dict]) -> dict[str, Any] | None:
    """The row that stands for the model: what its runs name as their headline, else the first on the test split."""
    if not rows:
        return None
    named = next((run["headline"] for run in done if run.get("headline")), None)
    fits = [r for r in rows if named and all(r[k] == named.get(k) for k in ("part", "split", "metric"))]
    return (fits or [r for r in rows if r["split"] == "test"] or rows)[0]


def verdicts(headline: dict[str, Any] | None) -> dict[str, str]:
    """For trivial and simple: yes, no or unsure, where there is something to say."""
    out = {}
    for level in ("trivial", "simple"):
        p = (headline or {}).get(f"p_better_{level}")
        if p is not None:
            out[level] = "yes" if p >= SURE else "no" if p <= 1 - SURE else "unsure"
    return out


def _notes(headline: dict | None, done: list[dict], absent: dict[str, tuple[str, str]], wanted: int) -> list[str]:
    notes = [f"{name} {state}: {reason}" for name, (state, reason) in absent.items()]
    for level, verdict in verdicts(headline).items():
        if headline and verdict != "yes":
            name, p = headline[f"{level}_name"] or level, headline[f"p_better_{level}"]
            how = "is better" if verdict == "no" else "is not surely beaten"
            notes.append(
                f"the {level} baseline ({name}) {how}: {headline['part']} {headline['metric']}, {percent(p)} sure that the model is better"
            )
    return notes + list(dict.fromkeys(note for run in done for note in run.get("notes", [])))


def percent(p: float) -> str:
    """How sure, without ever saying 0 or 100."""
    return ">99 %" if p > 0.99 else "<1 %" if p < 0.01 else f"{100 * p:.0f} %"


def _jobs(summary: dict[str, Any] | None, suite: str) -> dict[str, dict[str, Any]]:
    """The job that explains each run: a failed one before others; under "" the failure of a step before the runs."""
    found: dict[str, dict[str, Any]] = {}
    for job in (summary or {}).get("jobs", []):
        if not isinstance(job, dict) or job.get("suite") != suite or job.get("state") in ("done", "skipped"):
            continue
        run, state = str(job.get("run") or ""), str(job.get("state") or "")
        reason = str(job.get("reason") or (f"{job.get('rule')} {state}" if state else ""))
        if run not in found or (state == "failed" and found[run]["state"] != "failed"):
            found[run] = {"state": state, "reason": reason, "rule": str(job.get("rule") or "")}
    first = next((j for j in found.values() if j["state"] == "failed" and not j["rule"].startswith(("train", "evaluate", "run_"))), None)
    if first:
        found[""] = {"state": "missing", "reason": f"{BEFORE_RUNS}: {first['rule']}: {first['reason']}"}
    else:
        found.pop("", None)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except OSError as error:
        raise ComparisonError(f"{path}: cannot be read: {error.strerror}; give --partial to compare without it") from None
    except ValueError as error:
        raise ComparisonError(str(error)) from None
    keys = {"suite", "run", "model", "metrics"}
    if not isinstance(found, dict) or not keys <= set(found) or not isinstance(found["metrics"], list):
        raise ComparisonError(f"{path}: not a metrics.json: needs {', '.join(sorted(keys))}")
    for m in found["metrics"]:
        if not isinstance(m, dict) or not {"part", "split", "metric", "value", "direction"} <= set(m):
            raise ComparisonError(f"{path}: a metric lacks part, split, metric, value or direction")
    return found


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """comparison.csv, atomically; what is not known stays empty."""
    import csv

    from trainyard.data.files import replacing

    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
