"""From configuration, machines and earlier runs to plan.json."""

from pathlib import Path
from typing import Any

from trainyard.config.machines import Machines
from trainyard.config.worker import read_plan
from trainyard.dag.jobs import Jobs
from trainyard.dag.names import refuse_unknown
from trainyard.plan.actual import compare, corrected
from trainyard.plan.advice import advice
from trainyard.plan.build import build
from trainyard.plan.record import FORM, record
from trainyard.plan.solve import find_plan
from trainyard.plan.tasks import list_tasks
from trainyard.plan.whatif import given_plans, goal_of, one_more_of_each


def make_plan(jobs: Jobs, machines: Machines, results: Path, last: Path | None = None, everything: bool = False,
              seconds: float = 5.0) -> dict[str, Any]:  # fmt: skip
    """Plan what is to do (or `everything`), with machines' speeds as the `last` plan's runs showed them. Raises NoPlan, ConfigError."""
    refuse_unknown(machines.all_patterns(), jobs.given, jobs.home)
    before = _read(last) if last else {}
    known = {m["name"]: float(m["speed_correction"]) for m in before.get("machines", []) if m.get("speed_correction")}
    compared = compare(before, results, machines)
    speeds = corrected(known, compared)
    single = machines.single()

    def rate(host: str, labels: tuple[str, ...]) -> float:
        name = machines.of_host(host)
        return single[name].speed_of(labels) * speeds.get(name, 1.0) if name else 1.0

    tasks = list_tasks(jobs, results, rate, done=everything)
    problem = build(tasks, machines, speeds)
    plan = find_plan(problem, goal_of(machines), seconds)
    others = one_more_of_each(plan, tasks, machines, seconds)
    copies = {f"{suite}/{name}": jobs.dataset(suite, name).stated.copy_hours or 0.0 for suite, name in jobs.used_datasets()}
    return record(plan, others, given_plans(problem, machines), compared, advice(plan, results, copies))


def _read(path: Path) -> dict[str, Any]:
    """The plan before; nothing where there is none, or one of another form."""
    found = read_plan(path)
    return found if found.get("form") == FORM else {}
