"""What the hosts need of the workflow's own files: everything below the working directory that git does not ignore, added or not yet."""

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError

_PIECE = 1 << 20
_NEVER = {".git", ".snakemake"}


@dataclass(frozen=True)
class Manifest:
    """`entries`: {path, sha256, executable, mtime} or {path, link}; `version`: hash of all of them; `contents`: hash → file."""

    version: str
    entries: list[dict]
    contents: dict[str, Path]
    megabytes: float

    def pieces(self, hashes: Iterable[str]) -> Iterator[tuple[list[tuple[str, int, int, bool]], bytes]]:
        """The contents with these hashes in batches of about a megabyte: [(hash, offset, length, last)], data.
        WorkflowError: a file was changed after the run had begun."""
        batch: list[tuple[str, int, int, bool]] = []
        data = bytearray()
        for sha in hashes:
            content = self.contents[sha].read_bytes()
            if hashlib.sha256(content).hexdigest() != sha:
                raise WorkflowError(f"{self.contents[sha]} was changed after the run had begun; start it again")
            for offset in range(0, max(1, len(content)), _PIECE):
                piece = content[offset : offset + _PIECE]
                batch.append((sha, offset, len(piece), offset + _PIECE >= len(content)))
                data += piece
                if len(data) >= _PIECE:
                    yield batch, bytes(data)
                    batch, data = [], bytearray()
        if batch:
            yield batch, bytes(data)


def make_manifest(root: Path, always: Iterable[str], max_mb: float) -> Manifest:
    """Of the files below `root`; `always`: paths in it that are needed even where git ignores them.
    WorkflowError: more than `max_mb` (1 MB: 10**6 bytes), or a needed file is not below it."""
    names = set(_listed(root))
    for name in always:
        inside = os.path.normpath(name)
        if os.path.isabs(inside) or inside.split(os.sep)[0] == "..":
            raise WorkflowError(f"{name} is not below the working directory {root}; jobs on other hosts get only what is")
        names.add(inside)
    entries: list[dict] = []
    contents, sizes = {}, {}
    for name in sorted(names):
        path = root / name
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue  # Still in git's index, removed by hand.
        if stat.S_ISLNK(found.st_mode):
            entries.append({"path": name, "link": os.readlink(path)})
        elif stat.S_ISREG(found.st_mode):
            sizes[name] = found.st_size
            entries.append({"path": name, "executable": bool(found.st_mode & 0o100), "mtime": int(found.st_mtime)})
    total = sum(sizes.values()) / 1e6
    if total > max_mb:
        largest = "; ".join(f"{name} ({sizes[name] / 1e6:.1f} MB)" for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[:5])
        raise WorkflowError(
            f"the source files below {root} are {total:.1f} MB, more than the {max_mb:g} MB that go to every host. The largest: {largest}. "
            "Let git ignore what jobs do not need (.gitignore), or raise --ssh-max-source-mb"
        )
    for entry in entries:
        if "link" not in entry:
            with open(root / entry["path"], "rb") as file:
                entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
            contents[entry["sha256"]] = root / entry["path"]
    # Times are not in it: a file that was only touched is the same version.
    content = [{key: value for key, value in entry.items() if key != "mtime"} for entry in entries]
    version = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    return Manifest(version, entries, contents, total)


def _listed(root: Path) -> Iterator[str]:
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=120)
    except FileNotFoundError:
        done = None
    if done is None or done.returncode:
        yield from _walked(root)
        return
    for name in map(os.fsdecode, filter(None, done.stdout.split(b"\0"))):
        if name.split(os.sep)[0] in _NEVER:
            continue
        if (root / name).is_dir() and not (root / name).is_symlink():
            yield from (os.path.join(name, inner) for inner in _listed(root / name))  # a repository in the repository
        else:
            yield name


def _walked(root: Path) -> Iterator[str]:
    """Without git: all but its folder and Snakemake's."""
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [name for name in folders if name not in _NEVER and name not in links]
        yield from (os.path.relpath(os.path.join(folder, name), root) for name in [*names, *links])
