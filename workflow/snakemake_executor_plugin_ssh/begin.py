"""What a run must have before its first job: its folder for itself, its hosts, its sources."""

import os
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import SharedFSUsage

from .cancel import lock_folder
from .hosts import Host, read_hosts
from .manifest import Manifest, make_manifest
from .settings import ExecutorSettings

_CANCELLER_SECONDS = 60.0


def hosts_of(settings: ExecutorSettings) -> list[Host]:
    """The hosts of the settings, each with its Python and working folder."""

    def python(host: Host) -> str:
        return host.python or (sys.executable if host.local else settings.python)

    return [replace(host, python=python(host), workdir=host.workdir or settings.workdir) for host in read_hosts(settings.hosts)]


def take_folder(home: Path) -> int:
    """The folder's lock, held while the file descriptor is open. Two controllers in one folder would take each other's jobs for strays
    and end them. WorkflowError: another run has it."""
    until = time.monotonic() + _CANCELLER_SECONDS
    while (lock := lock_folder(home, "run")) is None:
        if time.monotonic() > until or (home / "lock").read_text().strip() != "cancel":
            raise WorkflowError(
                f"another snakemake is running jobs over ssh from this folder ({Path.cwd()}); wait for it, or use another folder"
            )
        time.sleep(0.2)
    return lock


def sources_of(workflow: Any, snakefile: str, max_mb: float) -> Manifest | None:
    """What goes to every host; None where hosts see this machine's files. WorkflowError: see make_manifest."""
    if SharedFSUsage.SOURCES in workflow.storage_settings.shared_fs_usage:
        return None
    always = [snakefile, *(os.path.relpath(path) for path in workflow.overwrite_configfiles)]
    return make_manifest(Path.cwd(), always, max_mb)


def prepare_command(host: Host, settings: ExecutorSettings) -> str:
    """The command that makes a host fit."""
    command = ["python", "-m", __package__, "prepare", host.name]
    if settings.config:
        command += ["--ssh-config", str(settings.config)]
    if host.python != ExecutorSettings.python:
        command += ["--python", host.python or ""]
    if settings.requirements:
        command += ["--requirements", str(settings.requirements)]
    return shlex.join(command)
