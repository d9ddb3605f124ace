"""`trainyard status`: from summary.json, heartbeats and results; nothing is asked of a running Snakemake."""

import json
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_logger_plugin_trainyard.heartbeat import SILENT, Heartbeat, all_heartbeats, seconds_of, stored
from snakemake_logger_plugin_trainyard.summary import is_entry
from snakemake_logger_plugin_trainyard.words import count, duration, name_list, wrap

from trainyard.cli.processes import Life, life_of

WORDS = {"alive": "running", "dead": "dead", "unknown": "unknown"}


@dataclass(frozen=True)
class Training:
    """A training with a heartbeat that is not known to have ended."""

    beat: Heartbeat
    life: Life
    machine: str | None = None  # as the executor calls it

    @property
    def name(self) -> str:
        return f"{self.beat.suite}/{self.beat.run}"


def run_status(results: Path, checkpoints: Path, as_json: bool) -> int:
    """Print the status; returns the exit code."""
    summary = read_summary(results)
    trainings = running_trainings(summary, results, checkpoints)
    if summary is None and not trainings and not any(results.glob("*/runs/*/metrics.json")):
        print(f"Nothing was run here yet: {results}/summary.json does not exist. `snakemake -n` says what would run.")
        return 2
    state = overall(summary)
    bad = state in ("failed", "interrupted", "dead") or any(t.life == "dead" for t in trainings)
    if as_json:
        print(json.dumps(_content(summary, state, trainings, results), indent=1))
    else:
        print("\n".join(_lines(summary, state, trainings, results)))
    return 1 if bad else 0


def read_summary(results: Path) -> dict[str, Any] | None:
    """results/summary.json, or None where there is none. Raises ValueError on a broken one."""
    path = results / "summary.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}; the next `snakemake` writes it anew") from None
    if not _is_summary(content):
        raise ValueError(f"{path}: not a summary; the next `snakemake` writes it anew")
    return content


def _is_summary(content: Any) -> bool:
    """Whether it has the form that the logger plugin writes."""
    if not isinstance(content, dict) or not isinstance(content.get("jobs"), list) or not isinstance(content.get("counts", {}), dict):
        return False
    return all(map(is_entry, content["jobs"]))


def overall(summary: dict[str, Any] | None) -> str:
    """State of the last call: done, failed, interrupted, running, dead (it runs no more and did not say so) or unknown."""
    if summary is None:
        return "unknown"
    state = str(summary.get("state"))
    if state != "running":
        return state
    return WORDS[life_of(summary.get("host"), summary.get("pid"), summary.get("pid_started"))]


def running_trainings(summary: dict[str, Any] | None, results: Path, checkpoints: Path) -> list[Training]:
    """Trainings that say they run, or did until they died; those that ended as they should are left out."""
    ended = {
        (job.get("suite"), job.get("run")): seconds_of(job.get("finished")) or 0.0
        for job in (summary or {}).get("jobs", [])
        if str(job.get("rule", "")).startswith("train") and job.get("state") in ("done", "failed", "interrupted")
    }
    machines = {(j.get("suite"), j.get("run")): j.get("machine") for j in (summary or {}).get("jobs", []) if j.get("state") == "running"}
    found = []
    for beat in [*all_heartbeats(checkpoints), *_in_a_bucket(summary)]:
        life = life_of(beat.values.get("host"), beat.values.get("pid"), beat.values.get("pid_started"))
        if life != "alive":
            if ended.get((beat.suite, beat.run), -1.0) >= beat.updated - 5:
                continue
            if _newer(results / beat.suite / "runs" / beat.run / "train.json", beat.updated - 5):
                continue  # its results came after its last word
        found.append(Training(beat, life, machines.get((beat.suite, beat.run))))
    return found


def _in_a_bucket(summary: dict[str, Any] | None) -> list[Heartbeat]:
    """Of a run that is going on and keeps its files in a bucket that is not on this machine: what trainings have brought there."""
    place = stored()
    if place.address is None or place.folder is not None or (summary or {}).get("state") != "running":
        return []
    from trainyard.cli.elsewhere import stored_heartbeats

    return stored_heartbeats(place.address, lambda line: print(line, file=sys.stderr))


def _newer(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime >= moment
    except OSError:
        return False


def _lines(summary: dict[str, Any] | None, state: str, trainings: list[Training], results: Path) -> list[str]:
    lines: list[str] = []
    jobs = (summary or {}).get("jobs", [])
    if summary is not None:
        counts = summary.get("counts", {})
        started = seconds_of(summary.get("started"))
        ago = f", started {duration(time.time() - started)} ago" if started else ""
        lines.append(f"Last call of snakemake: {state}{ago}: {_counted(counts)}")
        if state == "dead":
            lines.append(
                "  It is gone without a last word; `snakemake` goes on from what is done (on another machine `snakemake --unlock` first)."
            )
        if state == "unknown" and summary.get("state") == "running":
            lines.append(
                f"  It runs on {summary.get('host') or 'an unknown machine'}; its summary is {_age(results / 'summary.json')} old."
            )
    if trainings:
        lines += ["", "Trainings:"]
        for training in sorted(trainings, key=lambda t: (t.life, t.name)):
            lines += _training_lines(training)
    named = {(t.beat.suite, t.beat.run) for t in trainings}
    others = (
        [j for j in jobs if j.get("state") == "running" and (j.get("suite"), j.get("run")) not in named]
        if state in ("running", "unknown")
        else []
    )
    if others:
        lines += ["", "Other jobs that run:", *(f"  {_label(j)}" for j in others)]
    failed = [j for j in jobs if j.get("state") == "failed"]
    if failed:
        lines += ["", f"Failed: {len(failed)}"]
        for job in failed:
            lines.append(f"  {_label(job)}  attempt {job.get('attempts')}")
            lines += wrap(str(job.get("reason") or "no reason found"), 4, lines=2)
            lines.append(f"    log: {job.get('log') or 'none'}")
    for word, title in (("interrupted", "Interrupted"), ("skipped", "Not run")):
        group = [j for j in jobs if j.get("state") == word or (word == "interrupted" and state == "dead" and j.get("state") == "running")]
        if group:
            lines += ["", f"{title}: {len(group)}", *wrap(name_list([_label(j) for j in group], 8), 2)]
    lines += _results(results, jobs)
    return lines


def _training_lines(training: Training) -> list[str]:
    beat = training.beat
    seen = f"seen {duration(beat.age)} ago"
    words = beat.words()
    if training.life == "dead":
        return [
            f"  {training.name}  dead: its process is gone, {seen}",
            f"    {words}" if words else "    it goes on from its last checkpoint",
        ]
    host = beat.values.get("host")
    if training.life == "unknown":
        where = training.machine or host
        where = f"on {where}" if where else "somewhere"
        if beat.age <= SILENT and training.machine:
            return [f"  {training.name}  running {where}, {seen}", f"    {words}"]
        note = "no news, which is not yet death: look there" if beat.age > SILENT else "it is not on this machine"
        return [f"  {training.name}  unknown: {where}, {seen} ({note})", f"    {words}"]
    late = "  (no news for long: does it hang?)" if beat.age > SILENT else ""
    return [f"  {training.name}  running, {seen}{late}", f"    {words}"]


def _results(results: Path, jobs: list[dict[str, Any]]) -> list[str]:
    """How many runs of each suite have figures."""
    suites = {p.parent.parent.parent.name for p in results.glob("*/runs/*/metrics.json")}
    suites |= {str(j["suite"]) for j in jobs if j.get("suite") and str(j.get("rule", "")).startswith("evaluate")}
    lines = []
    for suite in sorted(suites):
        there = {p.parent.name for p in (results / suite / "runs").glob("*/metrics.json")}
        wanted = there | {str(j["run"]) for j in jobs if j.get("suite") == suite and j.get("rule") == "evaluate_model" and j.get("run")}
        lines.append(f"  {suite:<16} {len(there)} of {count(len(wanted), 'run')} with figures")
    report = results / "report" / "index.html"
    if report.exists():
        lines.append(f"  report           {report}, {_age(report)} old")
    return ["", "Results:", *lines] if lines else []


def _counted(counts: dict[str, Any]) -> str:
    words = {"failed": "failed", "running": "running", "interrupted": "interrupted", "skipped": "not run", "waiting": "waiting"}
    more = [f"{counts[k]} {word}" for k, word in words.items() if counts.get(k)]
    return ", ".join([f"{counts.get('done', 0)} of {count(counts.get('total', 0), 'job')} done", *more])


def _label(job: dict[str, Any]) -> str:
    name = "/".join(str(job[k]) for k in ("suite", "run") if job.get(k))
    machine = job.get("machine")
    where = f"  on {machine}" if machine and job.get("state") == "running" and machine != socket.gethostname() else ""
    return f"{job.get('rule')} {name}".strip() + where


def _age(path: Path) -> str:
    try:
        return duration(time.time() - path.stat().st_mtime)
    except OSError:
        return "an unknown time"


def _content(summary: dict[str, Any] | None, state: str, trainings: list[Training], results: Path) -> dict[str, Any]:
    jobs = (summary or {}).get("jobs", [])
    return {
        "state": state,
        "counts": (summary or {}).get("counts", {}),
        "trainings": [
            {**t.beat.values, "suite": t.beat.suite, "run": t.beat.run, "state": WORDS[t.life], "last_seen_seconds": round(t.beat.age, 1)}
            for t in trainings
        ],
        "jobs": [j for j in jobs if j.get("state") != "done"],
        "with_figures": sorted(str(p.parent.relative_to(results)) for p in results.glob("*/runs/*/metrics.json")),
    }
