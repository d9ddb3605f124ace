"""Ties a call of Snakemake to its storage: starts the store that the prefix asks for, and hands the keys to Snakemake's S3 plugin.

The plugin's client is made before the Snakefile is read, and talks to nobody until the DAG is built; so this is called at the top of
the rules. Without a default storage provider (profiles local and slurm) nothing happens at all.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from snakemake_interface_executor_plugins.settings import SharedFSUsage

from trainyard.config import Config
from trainyard.config.elsewhere import VARIABLE, Told, decode, encode
from trainyard.config.worker import machines_file
from trainyard.data.files import write_json
from trainyard.machines.hosts import write_hosts
from trainyard.machines.object_store import BUCKET, ObjectStore
from trainyard.machines.sent import sent_scripts

FOLDER = Path(".trainyard")
MIRROR = "TRAINYARD_CHECKPOINT_STORE"
# What jobs on other machines are told.
PASSED_ON = ("TRAINYARD_CALL", "TRAINYARD_DEADLINE", "TRAINYARD_TENSORBOARD", "TRAINYARD_MIRROR_SECONDS", MIRROR, VARIABLE)
SETTINGS = ("endpoint_url", "access_key", "secret_key")


@dataclass(frozen=True)
class Storage:
    """Where files travel through, s3://bucket/folder; the hosts that jobs may go to by name; the found scripts that are sent there."""

    prefix: str
    hosts: frozenset[str]
    sent: frozenset[str]


def told(workflow: Any) -> Told | None:
    """What the first call found, where this is the call of a job on another machine. Raises ConfigError."""
    settings = workflow.storage_settings
    there = workflow.remote_exec and settings and settings.default_storage_provider is not None
    return decode(os.environ[VARIABLE]) if there and VARIABLE in os.environ else None


def attach(workflow: Any, home: Path, config: Config, say=print) -> Storage | None:
    """The storage of this call; None without one. Starts the project's own store where the prefix names it and no endpoint is given.

    Raises StoreError when that cannot be done, ConfigError for a machines file that is none.
    """
    settings = workflow.storage_settings
    if not settings or settings.default_storage_provider is None:
        return None
    prefix = (settings.default_storage_prefix or "").rstrip("/")
    if settings.default_storage_provider == "s3":
        provider = workflow.storage_registry.default_storage_provider
        if urlparse(prefix).netloc == BUCKET and provider.settings.endpoint_url is None and not workflow.remote_exec:
            _serve(workflow, provider, say)
        os.environ.setdefault(MIRROR, f"{prefix}/checkpoints")
    hosts: set[str] = set()
    if workflow.remote_exec:
        sent = config.told.sent if config.told else frozenset()
    else:
        hosts = write_hosts(machines_file(config.settings, home), home, FOLDER)
        sent = frozenset() if SharedFSUsage.SOURCES in settings.shared_fs_usage else sent_scripts(config, Path.cwd())
        os.environ[VARIABLE] = encode(config, sent)
        _say_where(os.environ.get(MIRROR))
    workflow.register_envvars(*(name for name in PASSED_ON if name in os.environ))
    return Storage(prefix, frozenset(hosts), sent)


def _say_where(checkpoints: str | None) -> None:
    """For whoever looks how far trainings on other machines are: where their checkpoints go, and the folder, if it is on this machine."""
    where = urlparse(checkpoints or "")
    folder = str(FOLDER / "store" / BUCKET / where.path.strip("/")) if where.netloc == BUCKET else None
    write_json(FOLDER / "storage.json", {"checkpoints": checkpoints, "folder": folder})


def _serve(workflow: Any, provider: Any, say) -> None:
    access = ObjectStore(FOLDER, say).open()
    for name, value in zip(SETTINGS, (access.endpoint, access.access_key, access.secret_key)):
        os.environ[f"SNAKEMAKE_STORAGE_S3_{name.upper()}"] = value
        setattr(provider.settings, name, value)
    # What jobs on other machines get: their calls of Snakemake read it from the environment, so it is on no command line.
    workflow.storage_provider_settings["s3"].register_settings(provider.settings)
    provider.__post_init__()
