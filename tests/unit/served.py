"""A real object store for a test, its keys in the environment."""

import pytest
from trainyard.machines import object_store
from trainyard.machines.object_store import ObjectStore, StoreError


def needs_rclone() -> None:
    """Skip the module, with the reason, where there is no rclone."""
    try:
        object_store.rclone()
    except StoreError as missing:
        pytest.skip(str(missing), allow_module_level=True)


def keys(access) -> dict[str, str]:
    values = {"ENDPOINT_URL": access.endpoint, "ACCESS_KEY": access.access_key, "SECRET_KEY": access.secret_key}
    return {f"SNAKEMAKE_STORAGE_S3_{name}": value for name, value in values.items()}


def serve(folder, monkeypatch) -> ObjectStore:
    """An open store; the caller closes it."""
    store = ObjectStore(folder)
    for name, value in keys(store.open()).items():
        monkeypatch.setenv(name, value)
    return store
