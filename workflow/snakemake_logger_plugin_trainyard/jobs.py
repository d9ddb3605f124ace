"""A job of the DAG as this plugin knows it, and what happened to it as a notice."""

import logging
from dataclasses import dataclass, field
from typing import Literal

State = Literal["waiting", "running", "retrying", "done", "failed", "skipped", "interrupted"]
Kind = Literal["plan", "started", "done", "failed", "retry", "message", "nothing", "stopping", "over"]


@dataclass
class Job:
    """A job of the DAG. Times in epoch seconds."""

    jobid: int
    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    state: State = "waiting"
    attempts: int = 0
    why: str = ""  # Snakemake's reason for running it
    reason: str | None = None  # why it failed, or was not run
    output: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    attempt_log: str | None = None
    benchmark: str | None = None
    command: str | None = None
    threads: int = 1
    started: float | None = None
    finished: float | None = None
    status: int | str | None = None
    machine: str | None = None
    depends: list[int] = field(default_factory=list)
    target: bool = False  # a rule such as `all`: nothing to run
    needrun: bool = True

    @property
    def suite(self) -> str | None:
        return self.wildcards.get("suite")

    @property
    def run(self) -> str | None:
        """The run, or what else tells the rule's jobs apart: a model, a dataset, a model with a merge strategy."""
        rest = [value for name, value in self.wildcards.items() if name not in ("suite", "run")]
        return self.wildcards.get("run") or "/".join(rest) or None

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        return self.rule, self.suite, self.run

    @property
    def name(self) -> str:
        return "/".join(part for part in (self.suite, self.run) if part)

    @property
    def label(self) -> str:
        return f"{self.rule} {self.name}".strip()

    @property
    def seconds(self) -> float | None:
        return self.finished - self.started if self.started is not None and self.finished is not None else None


@dataclass
class Notice:
    """Something happened that a person may want to see."""

    kind: Kind
    job: Job | None = None
    text: str = ""
    level: int = logging.INFO
    at: float = 0.0
