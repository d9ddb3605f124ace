"""Which base an adapter was trained on: a fingerprint of the base's weights that is cheap for large files."""

import hashlib
from pathlib import Path

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
