"""results/plan.json as the report shows it, with what the planned runs took since."""

import math
from pathlib import Path
from typing import Any

from trainyard.config.together import SLOT
from trainyard.config.work import as_planned, work_of
from trainyard.report.loose import Loose, moment
from trainyard.report.views.runs import Run
from trainyard.report.views.whole import Planned

NUMBERS = ("hours", "bound", "cost")
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
    if not plan or not _whole(plan):
        return None
    ended = _ended(plan, runs)
    taken = {key: (run.seconds or 0.0) / 3600 * _own_share(files, results, run) for key, run in ended.items()}
    return Planned(plan, taken, _began(ended, taken), {key: _machine(plan, run.machine) for key, run in ended.items()})


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


def _ended(plan: dict[str, Any], runs: list[Run]) -> dict[tuple[str, str], Run]:
    """The planned runs that ended after the plan was made, as it was planned."""
    planned = {(str(r["suite"]), str(r["run"])): r for r in plan["runs"]}
    since = str(plan.get("created") or "")
    ended = [r for r in runs if (r.suite, r.name) in planned and r.seconds is not None]
    ended = [r for r in ended if _promoted(r) or as_planned(planned[r.suite, r.name], work_of(r.settings), r.epochs or 0)]
    # Times are ISO in UTC, and so sort as text.
    return {(r.suite, r.name): r for r in ended if str(r.info.get("finished") or "") >= since}


def _began(ended: dict[tuple[str, str], Run], taken: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Hours from the first start to each run's: its end less what it took, so interrupted runs look as if they had not waited."""
    ends = {key: moment(run.info.get("finished")) for key, run in ended.items()}
    starts = {key: end / 3600 - taken[key] for key, end in ends.items() if end is not None}
    first = min(starts.values(), default=0.0)
    return {key: start - first for key, start in starts.items()}


def _own_share(files: Loose, results: Path, run: Run) -> float:
    """What of a run's seconds is its own: a promoted run's include those of the short training that it goes on with."""
    promotion = results / run.suite / "promotion.json"
    if not _promoted(run) or not promotion.exists():
        return 1.0
    decision = files.object(promotion)
    first, last = decision.get("from_epochs"), decision.get("to_epochs")
    if not isinstance(first, int | float) or not isinstance(last, int | float) or not 0 <= first < last:
        return 1.0
    return 1 - first / last


def _promoted(run: Run) -> bool:
    return run.name.startswith(f"{SLOT}-")


def _machine(plan: dict[str, Any], host: str) -> str:
    """The plan's machine that has this host name; the only one has any."""
    machines = plan["machines"]
    if len(machines) == 1:
        return str(machines[0].get("name"))
    return next((str(m.get("name")) for m in machines if host and host in (m.get("host"), m.get("name"))), "")
