"""How the rules follow results/plan.json: what starts first, and on which machine. Neither is a param, so a new plan reruns nothing."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from trainyard.config.base import ConfigError
from trainyard.config.machines import fits, labels_of, load_machines
from trainyard.config.worker import PLAN, machines_file, read_plan
from trainyard.dag.asked import Asked
from trainyard.dag.jobs import Jobs

SPAN = 49  # priorities of the plan lie between a rule's own and that much above


class Follow:
    """Priorities and hosts of the plan; without a plan, the rules' own priorities and no host."""

    def __init__(self, jobs: Jobs, path: Path = PLAN):
        self.jobs, self.path = jobs, path
        self.reachable: frozenset[str] | None = None  # hosts that can be asked for; None: any

    @cached_property
    def _runs(self) -> list[dict[str, Any]]:
        return [r for r in read_plan(self.path).get("runs", []) if r.get("machine")]

    @cached_property
    def _hosts(self) -> dict[tuple[str, str], str]:
        """Machine of each run of the plan; nothing where it knows one machine only: that is this one."""
        return {} if self._is_here else {(r["suite"], r["run"]): str(r["machine"]) for r in self._runs}

    @cached_property
    def _is_here(self) -> bool:
        known = {str(m["name"]) for m in read_plan(self.path).get("machines", [])} | {str(r["machine"]) for r in self._runs}
        return bool(self._runs) and len(known) == 1

    @cached_property
    def _pinned(self) -> dict[tuple[str, str], str]:
        """Machine of each run that the machines file gives to one: where there is no plan, and for runs that it does not know."""
        try:
            machines = load_machines(machines_file(self.jobs.config.settings, self.jobs.home))
        except ConfigError:
            return {}  # who uses the file says what is wrong with it
        if self._is_here or len(machines.single()) < 2:
            return {}
        named = [((r.suite, r.name), labels_of(r.suite, r.gathered, r.name)) for r in (*self.jobs.runs, *self.jobs.slots)]
        named += [((s.suite, s.name), labels_of(s.suite, s.name, s.name)) for s in self.jobs.scripts]
        return {key: name for key, labels in named for pattern, name in machines.all_pins() if fits((pattern,), labels)}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        """1 … SPAN by planned start, the longer first where two start together; higher starts first."""
        ordered = sorted(self._runs, key=lambda r: (r["start"], -r["hours"]))
        return {(r["suite"], r["run"]): 1 + round((SPAN - 1) * (1 - i / max(1, len(ordered) - 1))) for i, r in enumerate(ordered)}

    def host(self, wildcards: Any) -> str | None:
        """The machine that a run is planned on, if jobs can be sent there."""
        key = (wildcards.suite, wildcards.run)
        machine = self._hosts.get(key) or (None if self._is_here else self._pinned.get(key))
        return machine if self.reachable is None or machine in self.reachable else None

    def hosts(self) -> Callable[[Any], str | None] | None:
        """The function `host`, or nothing where no run has a machine of its own: Snakemake then need not ask for each job."""
        return Asked(self.host) if self._hosts or self._pinned else None

    def priority(self, own: int) -> Callable[[Any], int] | int:
        """Priority of a rule: its own, raised by the rank of the first run that the job serves, as a function where there is a plan."""
        return Asked(partial(_priority, self, own)) if self._ranks else own

    def rank(self, wildcards: Any) -> int:
        """Rank of a job with a run, model or dataset wildcard: that of the first run that needs it."""
        if not self._ranks:
            return 0
        suite = wildcards.suite
        if hasattr(wildcards, "run"):
            return self._ranks.get((suite, wildcards.run), 0)
        served = [r for r in self.jobs.runs if r.suite == suite and self._serves(wildcards, r.model)]
        return max((self._ranks.get((suite, r.name), 0) for r in served), default=0)

    def _serves(self, wildcards: Any, model: str) -> bool:
        if hasattr(wildcards, "model"):
            return model == wildcards.model
        return self.jobs.model(wildcards.suite, model).dataset == getattr(wildcards, "dataset", None)


def _priority(follow: Follow, own: int, wildcards: Any) -> int:
    return own + follow.rank(wildcards)
