"""`snakemake -n` for people: what would run, grouped by rule and suite, why, and the hours at stake."""

import re

from snakemake_logger_plugin_trainyard.events import Tracker
from snakemake_logger_plugin_trainyard.forecast import Forecast
from snakemake_logger_plugin_trainyard.jobs import Job
from snakemake_logger_plugin_trainyard.readable import follows_only, readable_reason
from snakemake_logger_plugin_trainyard.terminal import Terminal
from snakemake_logger_plugin_trainyard.words import count, name_list, span, wrap

MOST_CAUSES = 2  # that a job's reason names; with more it says which input is made anew


def dryrun_lines(tracker: Tracker, forecast: Forecast, terminal: Terminal, commands: bool = False) -> list[str]:
    """The lines of a dry run; jobs in the order of the DAG as far as rules have one. `commands`: with what is run, for -p."""
    jobs = tracker.real
    if not jobs:
        return ["Nothing to do: every result is there and up to date."]
    paint = terminal.paint
    lines = [paint(f"{count(len(jobs), 'job')} would run", "bold") + f"; {at_stake(jobs, forecast)}"]
    rules: dict[str, list[Job]] = {}
    depths = _depths(tracker)
    by_id = {job.jobid: job for job in jobs}
    for job in sorted(jobs, key=lambda j: (depths[j.jobid], j.rule, j.name)):
        rules.setdefault(job.rule, []).append(job)
    for rule, members in rules.items():
        lines += ["", f"{paint(rule, 'bold')}  {len(members)}{_cost(members, forecast)}"]
        groups: dict[tuple[str, str], list[Job]] = {}
        for job in members:
            groups.setdefault((_general(_why(job, by_id), job), job.suite or "" if job.run else ""), []).append(job)
        told = None
        for (why, suite), group in sorted(groups.items(), key=lambda item: (follows_only(item[1][0].why), item[0])):
            if why and why != told:  # with --quiet Snakemake tells no reasons
                follows = follows_only(group[0].why)
                lines += [paint(line, "dim" if follows else "yellow") for line in wrap(why, 2)]
                told = why
            names = [job.run or job.suite or "" for job in group]
            if any(names):
                head = ": ".join(part for part in (suite, name_list(names)) if part)
                lines += [line if at == 0 else "  " + line for at, line in enumerate(wrap(head, 4, 77))]
    if commands:
        lines += ["", paint("Commands", "bold")]
        lines += [f"  {job.label}\n    {job.command}" for members in rules.values() for job in members if job.command]
    lines += ["", "This was a dry run: nothing was started or changed."]
    return lines


def _why(job: Job, by_id: dict[int, Job]) -> str:
    """A job's own reason; where it only follows from others, theirs: it is the cause that a person has to judge."""
    if not follows_only(job.why):
        return readable_reason(job.why)
    causes: dict[str, list[str]] = {}
    seen, todo = {job.jobid}, [d for d in job.depends if d in by_id]
    while todo:
        other = by_id[todo.pop(0)]
        if other.jobid in seen:
            continue
        seen.add(other.jobid)
        if follows_only(other.why):
            todo += [d for d in other.depends if d in by_id]
        else:
            causes.setdefault(_general(readable_reason(other.why), other), []).append(other.rule)
    if not causes or len(causes) > MOST_CAUSES:
        return readable_reason(job.why)
    return "; ".join(f"follows {', '.join(dict.fromkeys(rules))}: {cause}" for cause, rules in causes.items())


def _general(why: str, job: Job) -> str:
    """The reason without the job's own name, so that jobs with the same reason are told once: als.json → *.json."""
    # Most reasons name none: only those that do are worth a pattern of their own.
    for value in sorted((v for v in job.wildcards.values() if f"{v}." in why), key=len, reverse=True):
        why = re.sub(rf"(?<![\w*-]){re.escape(value)}(?=\.\w)", "*", why)
    return why


def at_stake(jobs: list[Job], forecast: Forecast) -> str:
    """Work of all jobs together in hours of machine time, and how much of it is unknown."""
    low, high, unknown = _work(jobs, forecast)
    if unknown == len(jobs):
        return "how long they take is not known yet"
    if unknown:
        return f"at least {span(low, high)} of work at stake ({count(unknown, 'job')} never timed)"
    return f"{span(low, high)} of work at stake"


def _work(jobs: list[Job], forecast: Forecast) -> tuple[float, float, int]:
    low = high = 0.0
    unknown = 0
    for job in jobs:
        estimate = forecast.estimate(job)
        if estimate is None:
            unknown += 1
        else:
            low, high = low + estimate.low, high + estimate.high
    return low, high, unknown


def _cost(jobs: list[Job], forecast: Forecast) -> str:
    low, high, unknown = _work(jobs, forecast)
    return f"   {span(low, high)}" if unknown < len(jobs) and high >= 1 else ""


def _depths(tracker: Tracker) -> dict[int, int]:
    """Longest way from a job's sources, by id; where the DAG is not known, the order Snakemake told them in."""
    ids = {job.jobid: at for at, job in enumerate(tracker.real)}
    depth: dict[int, int] = {}
    remaining = {job.jobid: [d for d in job.depends if d in ids] for job in tracker.real}
    while remaining:
        ready = [j for j, others in remaining.items() if all(o in depth for o in others)] or list(remaining)
        for jobid in ready:
            depth[jobid] = max((depth.get(o, -1) for o in remaining[jobid]), default=-1) + 1
        for jobid in ready:
            del remaining[jobid]
    return depth
