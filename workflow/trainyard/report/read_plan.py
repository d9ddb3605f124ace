"""results/plan.json as the report shows it, with what the planned runs took since."""

import math
from pathlib import Path
from typing import Any

from trainyard.report.loose import Loose
from trainyard.report.views import Planned, Run

NUMBERS = ("hours", "hours_low", "hours_high", "bound", "cost")
LISTS = ("runs", "machines", "one_more", "given", "advice")
OF_A_RUN = ("suite", "run", "machine", "slot", "start", "end", "hours", "pieces", "source")


def read_plan(files: Loose, results: Path, runs: list[Run]) -> Planned | None:
    """The plan, or None where there is none; one of another form is listed as a problem."""
    path = results / "plan.json"
    if not path.exists():
        return None
    plan = files.object(path)
    if plan and not _whole(plan):
        files.problems.append(f"{path.name}: not a plan of this version; make it again with `make plan`")
    return Planned(plan, _taken(plan, runs)) if plan and _whole(plan) else None


def _whole(plan: dict[str, Any]) -> bool:
    if not all(_figure(plan.get(k)) for k in NUMBERS) or not all(isinstance(plan.get(k), list) for k in LISTS):
        return False
    rows = [*plan["runs"], *plan["machines"], *plan["one_more"], *plan["given"]]
    return bool(plan["runs"]) and all(isinstance(r, dict) for r in rows) and all(_whole_run(r) for r in plan["runs"])


def _whole_run(run: dict[str, Any]) -> bool:
    pieces = run.get("pieces")
    if any(k not in run for k in OF_A_RUN) or not all(_figure(run[k]) for k in ("start", "end", "hours")) or not isinstance(pieces, list):
        return False
    return all(isinstance(p, list) and len(p) == 2 and all(map(_figure, p)) for p in pieces)


def _figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _taken(plan: dict[str, Any], runs: list[Run]) -> dict[tuple[str, str], float]:
    """Hours of the planned runs that ended after the plan was made."""
    planned = {(str(r["suite"]), str(r["run"])) for r in plan["runs"]}
    since = str(plan.get("created") or "")
    ended = [r for r in runs if (r.suite, r.name) in planned and r.seconds is not None]
    # Times are ISO in UTC, and so sort as text.
    return {(r.suite, r.name): (r.seconds or 0.0) / 3600 for r in ended if str(r.info.get("finished") or "") >= since}
