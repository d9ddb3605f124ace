"""A plan in words: the lines and the table that `make plan` prints."""

from collections.abc import Iterable
from typing import Any

SOURCES = {
    "earlier": "an earlier run, of it or of the model's other folds, shards or seeds", "stated": "the suite's file (`hours`)",
    "preflight": "preflight's prediction", "limit": "its time limit, as nobody knows", "merge": "about a minute each",
}  # fmt: skip
ROWS = 40


def hours(value: float) -> str:
    """`2.5 h`, or minutes and seconds below an hour."""
    if value == 0:
        return "0"
    if value >= 1 - 1e-9:
        return f"{value:.1f}".removesuffix(".0") + " h"
    minutes = value * 60
    if minutes >= 10:
        return f"{minutes:.0f} min"
    return f"{minutes:.1f} min" if minutes >= 1 else f"{minutes * 60:.0f} s"


def headline(plan: dict[str, Any]) -> str:
    """`5 runs on 2 machines: 4 h (2.4 to 6.4 h). No plan is shorter (proven by HiGHS in 0.02 s).`"""
    runs = [r for r in plan["runs"] if r["machine"]]
    used = {r["machine"] for r in runs}
    money = f", costs {plan['cost']:.2f}" if plan["cost"] else ""
    low, high = (None if plan[k] is None else hours(plan[k]) for k in ("hours_low", "hours_high"))
    span = f"{low} to {high}" if high else f"{low} or more" if low else "or more"
    what = "cheaper" if plan["minimise"] == "cost" else "shorter"
    if plan["proven"]:
        proof = f"No plan is {what} ({plan['solver']}, {plan['solver_seconds']:.2f} s of solving)."
    elif plan["gap"] is None:
        proof = f"How far from the best is not known ({plan['solver']})."
    else:
        # The gap is a share of the bound; what a plan can be shorter by, a share of this one.
        most = 100 * plan["gap"] / (1 + plan["gap"])
        proof = f"No plan is more than {max(0.1, most):.1f} % {what} ({plan['solver']}, {plan['seconds']:.1f} s)."
    return f"{count(len(runs), 'run')} on {count(len(used), 'machine')}: {hours(plan['hours'])} ({span}){money}. {proof}"


def lines(plan: dict[str, Any], most: int = ROWS) -> Iterable[str]:
    """Everything a person wants to know, line by line."""
    yield headline(plan)
    for given in plan["given"]:
        yield f"  {given['name']}, as given: {hours(given['hours']) if given['hours'] is not None else given['why']}"
    yield ""
    yield from table(plan, most)
    sources = dict.fromkeys(r["source"] for r in plan["runs"])
    yield "hours from: " + "; ".join(f"{s} = {SOURCES[s]}" for s in sources)
    yield ""
    if len({r["machine"] for r in plan["runs"] if r["machine"]}) > 1:
        yield f"{plan['critical']} ends last: the whole ends sooner only if it does."
    yield from plan["advice"]
    if plan["one_more"]:
        yield ""
        yield from _one_more(plan)
    corrected = [m for m in plan["machines"] if abs(m["speed_correction"] - 1) > 0.005]
    if plan["last"] or corrected:
        yield ""
        yield from _since(plan, corrected, most)
    yield from (f"note: {note}" for note in plan["notes"])


def _one_more(plan: dict[str, Any]) -> Iterable[str]:
    yield "What another machine would bring:"
    width = max(len(o["name"]) for o in plan["one_more"])
    for other in plan["one_more"]:
        if other["hours"] is None:
            yield f"  {other['name'].ljust(width)}  {other['why']}"
            continue
        saved = plan["hours"] - other["hours"]
        worth = f"saves {hours(saved)}" if saved > 0.005 * plan["hours"] else "saves nothing"
        money = f"costs {other['cost']:.2f} in all" if plan["cost"] or other["cost"] else ""
        words = (hours(other["hours"]), worth if plan["minimise"] == "time" else "", money)
        yield f"  {other['name'].ljust(width)}  {', '.join(filter(None, words))}"


def _since(plan: dict[str, Any], corrected: list[dict[str, Any]], most: int) -> Iterable[str]:
    """What the runs of the plan before took, and the speeds that this plan was made with for it."""
    yield "Planned before, and taken since:"
    for run in plan["last"][:most]:
        elsewhere = f"planned on {run['machine']}, ran on {run['ran_on'] or 'none of the machines'}"
        place = run["machine"] if run["ran_on"] == run["machine"] else elsewhere
        yield f"  {run['suite']}/{run['run']}: {hours(run['planned'])} planned, {hours(run['actual'])} taken ({place})"
    for machine in corrected:
        yield f"  {machine['name']} is planned with {machine['speed_correction']:.2f} times its stated speed"


def table(plan: dict[str, Any], most: int = ROWS) -> Iterable[str]:
    """A row a run, by machine and start."""
    slots = {r["machine"] for r in plan["runs"] if r["slot"]}
    rows = [("machine", "run", "start", "end", "takes", "hours from")]
    runs = sorted(plan["runs"], key=lambda r: (r["machine"] is None, str(r["machine"]), r["slot"] or 0, r["start"]))
    for run in runs[:most]:
        pieces = f" in {len(run['pieces'])} sessions" if len(run["pieces"]) > 1 else ""
        place = (run["machine"] or "any") + (f", slot {run['slot'] + 1}" if run["machine"] in slots else "")
        name = f"{run['suite']}/{run['run']}"
        rows.append((place, name, hours(run["start"]), hours(run["end"]), hours(run["hours"]) + pieces, run["source"]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.rjust(w) if i in (2, 3) else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
    if len(runs) > most:
        yield f"… and {len(runs) - most} more; all are in the file"


def following(plan: dict[str, Any], path: Any) -> str:
    """How it is followed."""
    machines = list(dict.fromkeys(r["machine"] for r in plan["runs"] if r["machine"]))
    how = "the next snakemake starts runs in this order"
    if len(machines) > 1:
        how += f", on SSH hosts of these names; or on each machine its own part, with --config worker={machines[0]} and so on"
    return f"Written to {path}: {how}."


def few(names: list[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def count(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {what}{'s' if number != 1 else ''}"
