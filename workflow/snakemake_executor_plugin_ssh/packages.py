"""What must be the same on the hosts as here."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

_PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*==\s*([^\s;#\\]+)\s*(?:[;#\\].*)?$")


def packages_needed(workflow: Any, requirements: Path | None) -> dict[str, str | None]:
    """{package: version}: Snakemake, its interfaces, the storage plugins in use, and what a lock file pins.
    WorkflowError: the lock file cannot be read or pins something else than what is installed here."""
    names = {"snakemake", "snakemake-interface-common", "snakemake-interface-executor-plugins", "snakemake-interface-storage-plugins"}
    if provider := workflow.storage_settings.default_storage_provider:
        names.add(f"snakemake-storage-plugin-{provider}")
    found: dict[str, str | None] = {name: importlib.metadata.version(name) for name in names}
    if requirements is not None:
        found |= read_pins(requirements)
    return found


def read_pins(path: Path) -> dict[str, str | None]:
    """`name==version` lines of a lock file; lines with a condition (`; sys_platform …`) are for the installer alone."""
    try:
        lines = path.read_text().splitlines()
    except OSError as problem:
        raise WorkflowError(f"--ssh-requirements {path}: {problem.strerror}") from None
    pins: dict[str, str | None] = {}
    for line in lines:
        if (match := _PINNED.match(line.strip())) and ";" not in line:
            pins[match[1]] = match[2]
    return pins
