"""Settings of the plugin; on the command line and in profiles as --ssh-<name>."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """See the README for what each is for. Optional[…] and not … | None: Snakemake makes its command line from these."""

    hosts: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Hosts as your OpenSSH configuration names them, each with what it may be given: name:cores=4,mem_mb=8000,gpu=1 "
            "(left out: what the host has), also python= and workdir=. `localhost` is this machine, without ssh. "
            "Or a YAML file: hosts: {name: {cores: 4}}.",
            "nargs": "+",
            "required": True,
        },
    )
    config: Optional[Path] = field(  # noqa: UP045
        default=None,
        metadata={"help": "OpenSSH configuration in place of ~/.ssh/config (ssh -F), e.g. from `gh codespace ssh --config`."},
    )
    workdir: str = field(
        default="~/.cache/snakemake-ssh",
        metadata={"help": "Folder on the hosts for sources, jobs and logs, with one for each project."},
    )
    python: str = field(
        default="~/.cache/snakemake-ssh/venv/bin/python",
        metadata={"help": "Python of the environment on the hosts in which jobs run (the default is where `prepare` makes it)."},
    )
    requirements: Optional[Path] = field(  # noqa: UP045
        default=None,
        metadata={"help": "Lock file whose versions a host must have; without it only Snakemake's parts are compared."},
    )
    unreachable_minutes: float = field(
        default=15.0,
        metadata={"help": "A host not reached for so long has lost its jobs, and they start elsewhere. 0: wait for it without end."},
    )
    silence_seconds: float = field(
        default=20.0,
        metadata={"help": "A connection on which a host has said nothing for so long has ended, and is made again."},
    )
    forward: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Ports of this machine's 127.0.0.1 that every host gets at its own 127.0.0.1, e.g. that of an object store. "
            "Default: those in the environment that jobs get, as http://127.0.0.1:PORT, which is where a storage's endpoint goes.",
            "nargs": "+",
        },
    )
    max_source_mb: float = field(default=50.0, metadata={"help": "More source files than this (MB) are refused, naming the largest."})
    keep: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders of the working directory that stay on a host from job to job, e.g. checkpoints.", "nargs": "+"},
    )
    max_log_mb: float = field(default=10.0, metadata={"help": "Of a job that prints more than this (MB), beginning and end are kept."})
