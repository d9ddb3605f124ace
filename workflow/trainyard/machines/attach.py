"""Ties a call of Snakemake to its storage: starts the store that the prefix asks for, and hands the keys to Snakemake's S3 plugin.

The plugin's client is made before the Snakefile is read, and talks to nobody until the DAG is built; so this is called at the top of
the rules. Without a default storage provider (profiles local and slurm) nothing happens at all.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from trainyard.machines.hosts import write_hosts
from trainyard.machines.object_store import BUCKET, ObjectStore

FOLDER = Path(".trainyard")
MIRROR = "TRAINYARD_CHECKPOINT_STORE"
# What jobs on other machines are told.
PASSED_ON = ("TRAINYARD_CALL", "TRAINYARD_DEADLINE", "TRAINYARD_TENSORBOARD", "TRAINYARD_MIRROR_SECONDS", MIRROR)
SETTINGS = ("endpoint_url", "access_key", "secret_key")


@dataclass(frozen=True)
class Storage:
    """Where files travel through, s3://bucket/folder, and the hosts that jobs may go to by name."""

    prefix: str
    hosts: frozenset[str]


def attach(workflow: Any, home: Path, say=print) -> Storage | None:
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
    hosts = set() if workflow.remote_exec else write_hosts(home, FOLDER)
    workflow.register_envvars(*(name for name in PASSED_ON if name in os.environ))
    return Storage(prefix, frozenset(hosts))


def _serve(workflow: Any, provider: Any, say) -> None:
    access = ObjectStore(FOLDER, say).open()
    for name, value in zip(SETTINGS, (access.endpoint, access.access_key, access.secret_key)):
        os.environ[f"SNAKEMAKE_STORAGE_S3_{name.upper()}"] = value
        setattr(provider.settings, name, value)
    # What jobs on other machines get: their calls of Snakemake read it from the environment, so it is on no command line.
    workflow.storage_provider_settings["s3"].register_settings(provider.settings)
    provider.__post_init__()
