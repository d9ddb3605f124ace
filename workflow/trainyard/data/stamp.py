"""A cheap stamp of a user's data: changes when files come, go or change size, not when the folder moves."""

import hashlib
import os
from pathlib import Path


def data_stamp(root: Path) -> str:
    """Count, bytes and a hash over sorted names and sizes below a root, or of one file. Opens no file, follows no link.

    Hidden files and folders do not count, for they are never samples: a file manager that leaves its own is no reason to train again.
    A file edited without a change of size is not seen here: its content is, when the local copy runs.
    """
    if root.is_file():
        return f"1 file {root.stat().st_size} bytes"
    digest, count, total = hashlib.blake2b(digest_size=8), 0, 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path = os.path.join(folder, name)
            try:
                size = os.lstat(path).st_size
            except OSError:
                continue
            digest.update(f"{os.path.relpath(path, root)}\0{size}\0".encode("utf-8", "surrogateescape"))
            count, total = count + 1, total + size
    return f"{count} files {total} bytes {digest.hexdigest()}"
