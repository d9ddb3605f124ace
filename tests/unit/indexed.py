"""For the tests of the index: files made in one line, and what an index of them holds."""

from pathlib import Path

from trainyard.data.index import build_index, typed_dataset
from trainyard.data.index_file import open_index, write_index


def index(root: Path, **settings) -> tuple[dict[str, list], dict]:
    table = build_index(root, typed_dataset(settings))
    write_index(table, root.parent / "index.parquet")
    columns, meta = open_index(root.parent / "index.parquet")
    return {name: list(column) for name, column in columns.items()}, meta


def touch(root: Path, *names: str, data: bytes = b"x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root
