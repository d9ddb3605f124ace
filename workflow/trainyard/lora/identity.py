"""Which base an adapter was trained on: a fingerprint of the base's weights that is cheap for large files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from trainyard.lora.adapter import Adapter
from trainyard.lora.adapter_config import AdapterError

WHOLE = 64_000_000
SAMPLE = 1_000_000


def base_identity(base: str) -> str:
    """SHA-256 over config.json and the weight files of a folder; "" for a hub name, which names itself.

    Files above 64 MB count with their size and three samples of 1 MB: start, middle and end.
    """
    folder = Path(base).expanduser()
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with open(path, "rb") as file:
            for start in [None] if size <= WHOLE else [0, size // 2, size - SAMPLE]:
                file.seek(start or 0)
                digest.update(file.read() if start is None else file.read(SAMPLE))
    return digest.hexdigest()


def check_base(adapters: Iterable[Adapter], base: str) -> None:
    """Raises AdapterError for an adapter that was trained on other weights than those of `base`, where both are known: it would load
    and answer, but not as it was trained."""
    found = base_identity(base)
    for adapter in adapters:
        if found and adapter.base_identity and adapter.base_identity != found:
            raise AdapterError(
                f"{adapter.path}: trained on another base than {base}: weights {adapter.base_identity[:12]} against {found[:12]}; give the "
                f"base it was trained on ({adapter.config.get('base_model_name_or_path')})"
            )
