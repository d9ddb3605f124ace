"""One person's slice of the runs: what the plan, or a machines file, gives the machine that `worker` names."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.config.base import ConfigError, nearest
from trainyard.config.machines import Machines, fits, labels_of, load_machines
from trainyard.config.schema import Settings

PLAN = Path("results/plan.json")
RUN = {"suite", "run", "machine", "start", "hours"}


@dataclass(frozen=True)
class Slice:
    """The runs of one worker: by path (suite/run) from a plan, or by patterns from a machines file."""

    worker: str
    source: str
    paths: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()

    def has(self, suite: str, model: str, run: str) -> bool:
        """Whether a run is this worker's."""
        return f"{suite}/{run}" in self.paths or fits(self.patterns, labels_of(suite, model, run))


def worker_slice(settings: Settings, home: Path, plan: Path = PLAN) -> Slice | None:
    """What `worker` is to do; None without one. A plan that knows the worker decides, else the machines file. Raises ConfigError."""
    worker = settings.worker
    if worker is None:
        return None
    runs, planned = read_plan(plan).get("runs", []), _machines_of(plan)
    if worker in planned:
        return Slice(worker, str(plan), frozenset(f"{r['suite']}/{r['run']}" for r in runs if r["machine"] == worker))
    path = machines_file(settings, home)
    machines = load_machines(path)
    single = machines.single()
    if worker not in single:
        known = list(dict.fromkeys([*planned, *single]))
        where = f"{plan} and {path}" if planned else str(path)
        raise ConfigError(f"config: worker: no machine is called '{worker}' in {where}{_known(worker, known)}")
    patterns = assigned(machines, worker)
    if not patterns:
        raise ConfigError(
            f"config: worker: nothing is assigned to '{worker}': divide the runs with `make plan`, or name its runs in {path} "
            f"(machines.{worker}.runs)"
        )
    return Slice(worker, str(path), patterns=patterns)


def assigned(machines: Machines, worker: str) -> tuple[str, ...]:
    """The patterns of the runs that a machines file gives to a machine: its own `runs`, and the pins to it."""
    return tuple(pattern for pattern, name in machines.all_pins() if name == worker)


def machines_file(settings: Settings, home: Path) -> Path:
    """Where the machines are described."""
    return Path(settings.machines).expanduser() if settings.machines else home / "config" / "machines.yaml"


def read_plan(path: Path) -> dict[str, Any]:
    """The plan; empty where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and _whole(found) else {}


def _whole(plan: dict[str, Any]) -> bool:
    """Whether it has what a plan is followed by."""
    runs, machines = plan.get("runs"), plan.get("machines", [])
    if not isinstance(runs, list) or not isinstance(machines, list):
        return False
    return all(isinstance(r, dict) and r.keys() >= RUN for r in runs) and all(isinstance(m, dict) and "name" in m for m in machines)


def _machines_of(plan: Path) -> list[str]:
    return [str(m["name"]) for m in read_plan(plan).get("machines", [])]


def _known(worker: str, known: list[str]) -> str:
    found = nearest(worker, known)
    return found if found.startswith("; known") or not found else f"{found} known: {', '.join(sorted(known))}"
