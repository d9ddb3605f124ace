"""The machines that work can be planned on (config/machines.yaml), typed and checked."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, model_validator

from trainyard.config.base import ConfigError, Frozen, nearest
from trainyard.config.validation import merge, validate

FINITE: Any = {**Frozen.model_config, "allow_inf_nan": False}


class Machine(Frozen):
    """One machine, or `count` equal ones."""

    model_config = ConfigDict(**FINITE)

    description: str = Field("", description="what it is, for people")
    kind: str | None = Field(None, description="kind whose values it starts from")
    host: str | None = Field(None, description="host name that it reports; null: its own name here, and any host where it is the only one")
    ssh: bool = Field(
        False,
        description="whether profile ec2 sends jobs there over ssh; its name is that in the OpenSSH configuration, localhost this machine",
    )
    count: int = Field(1, ge=1, le=10000, description="how many of them; more than one are called name-1, name-2, …")
    cores: int | None = Field(None, ge=1, description="CPU cores; null: as many as this machine has")
    memory_gb: float | None = Field(None, gt=0, description="memory, GB; null: as much as this machine has")
    disk_gb: float | None = Field(None, gt=0, description="free disk, GB; null: not asked")
    gpus: int = Field(0, ge=0, description="GPUs; an MPS device of a Mac counts as one")
    slots: int | None = Field(
        1, ge=1, le=1000, description="trainings at once, each with an equal share of memory and GPUs; null: as `trainyard recommend` says"
    )
    speed: float = Field(1.0, gt=0, description="how many times as fast a training is as on the machine that the stated hours are for")
    speeds: dict[str, float] = Field({}, description="speed of single models, by patterns on suite, model or suite/model; the first counts")
    link_mb_s: float | None = Field(None, gt=0, description="MB/s at which data reach it; null: they are there")
    session_hours: float | None = Field(None, gt=0, description="hours after which it stops; training goes on from a checkpoint")
    session_gap_hours: float | None = Field(None, ge=0, description="hours until it can be started again; null: it does not come back")
    restart_minutes: float = Field(5, ge=0, description="minutes from a start to training again")
    joins_hours: float = Field(0, ge=0, description="hours from now until it is there")
    price_per_hour: float = Field(0, ge=0, description="what an hour of it costs, in any one currency")
    runs: tuple[str, ...] = Field(
        (), description="runs that go here whatever a plan would say (patterns on suite, model or run): what `worker=<name>` does"
    )
    only: tuple[str, ...] = Field((), description="only these suites, models or runs (patterns)")
    never: tuple[str, ...] = Field((), description="never these suites, models or runs (patterns)")

    @model_validator(mode="after")
    def _fast(self):
        for pattern, speed in self.speeds.items():
            if not speed > 0:
                raise ValueError(f"speeds: '{pattern}' must be above 0, found {speed}")
        if self.runs and self.count > 1:
            raise ValueError("runs: for several equal machines (count) it is open which of them is meant; describe each by its own name")
        return self

    def takes(self, labels: tuple[str, ...]) -> bool:
        """Whether `only` and `never` let a run with these names here."""
        return (not self.only or fits(self.only, labels)) and not fits(self.never, labels)

    def speed_of(self, labels: tuple[str, ...]) -> float:
        """Speed for a run with these names."""
        return next((s for pattern, s in self.speeds.items() if fits((pattern,), labels)), self.speed)


class Machines(Frozen):
    """Machines, kinds of machines, and what the plan is to do with them."""

    model_config = ConfigDict(**FINITE)

    kinds: dict[str, dict[str, Any]] = Field({}, description="values that machines of a kind share; `more: false` keeps it out of what-if")
    machines: dict[str, Machine] = Field({}, min_length=1, description="the machines by name")
    pins: dict[str, str] = Field({}, description="runs that must go to a machine: pattern on suite, model or run → machine")
    minimise: Literal["time", "cost"] = Field("time", description="time: the whole is done soonest; cost: it costs least")
    deadline_hours: float | None = Field(None, gt=0, description="all must be done by then (with minimise: cost)")
    budget: float | None = Field(None, gt=0, description="it must not cost more (with minimise: time)")
    given: dict[str, dict[str, tuple[str, ...]]] = Field(
        {}, description="plans made by hand, for comparison: name → machine → runs or models (patterns)"
    )

    @model_validator(mode="after")
    def _whole(self):
        if self.minimise == "cost" and self.budget is not None:
            raise ValueError("budget belongs to minimise: time; for minimise: cost give deadline_hours")
        if self.minimise == "time" and self.deadline_hours is not None:
            raise ValueError("deadline_hours belongs to minimise: cost; for minimise: time give budget")
        if (self.minimise == "cost" or self.budget is not None) and not any(m.price_per_hour for m in self.machines.values()):
            what = "budget" if self.budget is not None else "minimise: cost"
            raise ValueError(f"{what} needs a price_per_hour of some machine: without one every plan costs nothing")
        return self

    def single(self) -> dict[str, Machine]:
        """Every machine by its own name, counts spelled out."""
        found = {}
        for name, machine in self.machines.items():
            one = machine.model_copy(update={"count": 1})
            for key in self._names(name):
                if key in found:
                    raise ConfigError(f"machines: two machines are called '{key}'; rename one")
                found[key] = one
        return found

    def _names(self, name: str) -> list[str]:
        count = self.machines[name].count
        return [name] if count == 1 else [f"{name}-{i}" for i in range(1, count + 1)]

    def of_kind(self, kind: str) -> list[str]:
        """The machines of a kind, as one_more() calls it."""
        mine = [name for name, m in self.machines.items() if (m.kind or f"like {name}") == kind]
        return [single for name in mine for single in self._names(name)]

    def all_pins(self) -> list[tuple[str, str]]:
        """(pattern, machine) of all pins: those below `pins`, and what machines name as their `runs`."""
        return [*self.pins.items(), *((pattern, name) for name, m in self.machines.items() for pattern in m.runs)]

    def all_patterns(self) -> list[tuple[str, str]]:
        """(where, pattern) of everything in the file that names runs."""
        found = [(f"pins ({name})", pattern) for pattern, name in self.pins.items()]
        for name, m in self.machines.items():
            for key in ("runs", "only", "never", "speeds"):
                found += [(f"machines.{name}.{key}", pattern) for pattern in getattr(m, key)]
        found += [(f"given.{plan}.{name}", p) for plan, parts in self.given.items() for name, patterns in parts.items() for p in patterns]
        return found

    def of_host(self, host: str) -> str | None:
        """The machine that has this host name; the only one there is has any."""
        single = self.single()
        if len(single) == 1:
            return next(iter(single))
        return next((name for name, m in single.items() if host and host in (m.host, name)), None)

    def one_more(self) -> dict[str, Machine]:
        """A machine of every kind, for what one more would bring; machines without a kind count as their own."""
        kinds = {k: validate(Machine, {key: v for key, v in values.items() if key != "more"}, f"kinds.{k}")
                 for k, values in self.kinds.items() if values.get("more", True)}  # fmt: skip
        alone = {name: m.model_copy(update={"count": 1, "runs": ()}) for name, m in self.machines.items() if m.kind is None}
        return kinds | {f"like {name}": machine for name, machine in alone.items()}


def labels_of(suite: str, model: str, run: str) -> tuple[str, ...]:
    """The names that a run answers to in patterns."""
    return (suite, model, run, f"{suite}/{model}", f"{suite}/{run}")


def fits(patterns: tuple[str, ...], labels: Iterable[str]) -> bool:
    """Whether one of a run's names is like one of the patterns."""
    return any(fnmatchcase(label, p) for label in labels for p in patterns)


def load_machines(path: Path) -> Machines:
    """Read and check a machines file; a machine's own values go over its kind's. Raises ConfigError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; machines are described in config/README.md") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping with `machines:`")
    for key in ("machines", "kinds"):
        if not isinstance(data.get(key) or {}, dict) or not all(isinstance(v or {}, dict) for v in (data.get(key) or {}).values()):
            raise ConfigError(f"{path}: {key}: expected names, each with its values below")
        data[key] = {str(name): values for name, values in (data.get(key) or {}).items()}  # a machine may be called 1
    kinds = {name: values or {} for name, values in (data.get("kinds") or {}).items()}
    data["kinds"] = kinds
    for name, own in (data.get("machines") or {}).items():
        own = own or {}
        kind = own.get("kind")
        if kind is None:
            continue
        if kind not in kinds:
            raise ConfigError(f"{path}: machines.{name}.kind: unknown kind '{kind}'{nearest(kind, list(kinds))}")
        shared = {k: v for k, v in kinds[kind].items() if k != "more"}
        data["machines"][name] = merge(shared, own)
    data["machines"] = {k: v or {} for k, v in (data.get("machines") or {}).items()}
    machines = validate(Machines, data, str(path))
    machines.one_more()
    names = list(machines.single())
    for pattern, name in machines.pins.items():
        if name not in names:
            raise ConfigError(f"{path}: pins.{pattern}: unknown machine '{name}'{nearest(name, names)}")
    for plan, parts in machines.given.items():
        for name in parts:
            if name not in names:
                raise ConfigError(f"{path}: given.{plan}: unknown machine '{name}'{nearest(name, names)}")
    return machines
