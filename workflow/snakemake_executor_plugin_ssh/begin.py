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

from .attempts import Attempt, Journal
from .book import Book
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


def check_storage(settings: Any) -> None:
    """WorkflowError: the files of jobs can travel neither by a shared filesystem nor through a storage."""
    if SharedFSUsage.INPUT_OUTPUT not in settings.shared_fs_usage and settings.default_storage_provider is None:
        raise WorkflowError(
            "without a shared filesystem, files travel through a storage: set --default-storage-provider and --default-storage-prefix"
        )


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


def take_up(journal: Journal, book: Book, minutes: float) -> tuple[dict[str, list[Attempt]], list[str]]:
    """What another life of this controller left, into the book. Returns the attempts by job, and what to tell the person."""
    names = set(book.hosts)
    earlier: dict[str, list[Attempt]] = {}
    notes = []
    for attempt in journal.read():
        if attempt.revoked:
            book.revoke(attempt)
        else:
            earlier.setdefault(attempt.job, []).append(attempt)
            book.keep(attempt)
        if attempt.host not in names:
            notes.append(
                f"{attempt.name} may still run on host {attempt.host}, which is not among the hosts: it starts elsewhere after "
                f"{minutes:g} minutes; name the host to have it now"
            )
    return earlier, notes
