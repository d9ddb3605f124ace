"""A plan in words: the lines and the table that `make plan` prints."""

from collections.abc import Iterable
from typing import Any

SOURCES = {
    "earlier": "an earlier run", "stated": "its owners' word", "preflight": "preflight's prediction",
    "limit": "its time limit: nobody knows", "merge": "merges take about a minute",
}  # fmt: skip
ROWS = 40


def hours(value: float) -> str:
    """`2.5 h`, or minutes and seconds below an hour."""
    if value >= 1 - 1e-9 or value == 0:
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
    span = f"{hours(plan['hours_low'])} to {hours(plan['hours_high'])}"
    what = "cheaper" if plan["minimise"] == "cost" else "shorter"
    if plan["proven"]:
        proof = f"No plan is {what} ({plan['solver']}, {plan['solver_seconds']:.2f} s of solving)."
    elif plan["gap"] is None:
        proof = f"How far from the best is not known ({plan['solver']})."
    else:
        proof = f"No plan is more than {max(0.1, 100 * plan['gap']):.1f} % {what} ({plan['solver']}, {plan['seconds']:.1f} s)."
    count = f"{len(runs)} run{'s' if len(runs) != 1 else ''} on {len(used)} machine{'s' if len(used) != 1 else ''}"
    return f"{count}: {hours(plan['hours'])} ({span}){money}. {proof}"


def lines(plan: dict[str, Any], most: int = ROWS) -> Iterable[str]:
    """Everything a person wants to know, line by line."""
    yield headline(plan)
    for given in plan["given"]:
        yield f"  {given['name']}, as given: {hours(given['hours']) if given['hours'] is not None else given['why']}"
    yield ""
    yield from table(plan, most)
    yield ""
    yield f"Last to end: {plan['critical']}."
    sources = dict.fromkeys(r["source"] for r in plan["runs"])
    yield "Hours come from " + "; ".join(f"{s}: {SOURCES[s]}" for s in sources if s != "merge") + "."
    for other in plan["one_more"]:
        if other["hours"] is None:
            yield f"{other['name']}: {other['why']}"
            continue
        saved = plan["hours"] - other["hours"]
        worth = f"saves {hours(saved)}" if saved > 0.005 * plan["hours"] else "saves nothing"
        worth = worth if plan["minimise"] == "time" else f"costs {other['cost']:.2f}"
        yield f"{other['name']}: {hours(other['hours'])}, {worth}"
    yield from plan["advice"]
    done = [c for c in plan["last"] if c["ran_on"]]
    for run in done[:most]:
        elsewhere = f" (on {run['ran_on']})" if run["ran_on"] != run["machine"] else ""
        yield f"last plan: {run['suite']}/{run['run']} {hours(run['planned'])} planned, {hours(run['actual'])} taken{elsewhere}"
    yield from (f"note: {note}" for note in plan["notes"])


def table(plan: dict[str, Any], most: int = ROWS) -> Iterable[str]:
    """A row a run, by machine and start."""
    rows = [("machine", "run", "start", "end", "hours", "from")]
    runs = sorted(plan["runs"], key=lambda r: (r["machine"] is None, str(r["machine"]), r["slot"] or 0, r["start"]))
    for run in runs[:most]:
        pieces = f" in {len(run['pieces'])} sessions" if len(run["pieces"]) > 1 else ""
        place = (run["machine"] or "here") + (f" ({run['slot'] + 1})" if run["slot"] else "")
        name = f"{run['suite']}/{run['run']}"
        rows.append((place, name, hours(run["start"]), hours(run["end"]), hours(run["hours"]) + pieces, run["source"]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.rjust(w) if i in (2, 3) else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
    if len(runs) > most:
        yield f"… and {len(runs) - most} more; all are in the file"
