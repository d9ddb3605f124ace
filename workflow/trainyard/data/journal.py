"""What a local copy has done so far, written down as it goes, so that a copy that was killed goes on where it was.

A line is a commit: outcomes of consecutive samples of one split, totals, and what the unfinished packs hold by then. A line that
is cut off does not count. The first line says what the copy was made from (index, splits, settings, code, libraries): of another,
nothing is used.
"""

import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

# Of these the values in a pack come; a pack of two versions would be one that nobody could make again.
LIBRARIES = ("numpy", "scipy", "soundfile", "soxr", "symusic", "pretty_midi", "mido")


class Outcome(NamedTuple):
    """One sample: its row in the index, the kind of its content (see Loaded), why it is refused, digest (of new contents) and stamps."""

    at: int
    kind: str
    refused: str | None
    digest: str
    stamps: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Commit:
    """Outcomes of one split in order, the totals and shape behind them, and marks of its packs; `finished`: its packs are in place."""

    split: str
    outcomes: list[Outcome]
    totals: dict[str, Any]
    shape: dict[str, list] | None
    marks: dict[str, Any]
    finished: bool = False


@dataclass
class Kept:
    """What can be used of one split."""

    outcomes: list[Outcome] = field(default_factory=list)
    last: Commit | None = None


class Journal:
    """The commits of a work folder. `why_anew` says why an earlier journal is not used, if there was one."""

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path, self.why_anew = path, ""
        self._head = json.dumps(identity, sort_keys=True)
        self.commits = self._read()
        self._file: Any = None

    def check(self, unchanged: Callable[[Sequence[Outcome]], int]) -> None:
        """Forget everything from the first sample on whose source has changed. `unchanged`: how many outcomes still hold."""
        outcomes = [o for c in self.commits for o in c.outcomes]
        good, seen = unchanged(outcomes), 0
        if good == len(outcomes):
            return
        for number, commit in enumerate(self.commits):
            seen += len(commit.outcomes)
            if seen > good:
                self.why_anew = "a source has changed since"
                # The parts of a finished pack are gone: it can only be made as a whole.
                whole = any(c.finished for c in self.commits[number:] if c.split == commit.split)
                first = next(i for i, c in enumerate(self.commits) if c.split == commit.split)
                del self.commits[first if whole else number :]
                return

    def of(self, split: str) -> Kept:
        commits = [c for c in self.commits if c.split == split]
        return Kept([o for c in commits for o in c.outcomes], commits[-1] if commits else None)

    def forget(self, split: str, why: str) -> Kept:
        """Drop a split and what came after it, on disk too; nothing of it is left then."""
        self.why_anew = why
        del self.commits[next((i for i, c in enumerate(self.commits) if c.split == split), len(self.commits)) :]
        self.open()
        return Kept()

    def open(self) -> None:
        """Write what is kept anew, and be ready for more."""
        if self.why_anew:
            print(f"an earlier copy was stopped here; not all of it can be used: {self.why_anew}", flush=True)
            self.why_anew = ""
        self.close()
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        self._file = open(temporary, "w", encoding="utf-8")  # noqa: SIM115 - open for the life of the journal
        self._file.write(self._head + "\n")
        self._file.writelines(_line(commit) for commit in self.commits)
        self._file.flush()
        os.replace(temporary, self.path)

    def add(self, commit: Commit) -> None:
        self._file.write(_line(commit))
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self) -> list[Commit]:
        try:
            head, *lines = self.path.read_bytes().split(b"\n")[:-1]
        except (OSError, ValueError):
            return []
        if head.decode(errors="replace") != self._head:
            self.why_anew = "it was made from another index, division, settings or code"
            return []
        out = []
        for line in lines:
            try:
                values = json.loads(line)
                out.append(Commit(**{**values, "outcomes": [Outcome(*o) for o in values["outcomes"]]}))
            except (ValueError, TypeError, KeyError):
                break
        return out


def identity_of(index: str, splits: str, about: dict[str, Any], sources: Sequence[Path]) -> dict[str, Any]:
    """What a copy is made from: contents of index and splits, its settings, this package's code, library versions, and size and
    time of the files that rows point into."""
    package = Path(__file__).parent
    code = xxhash.xxh3_64()
    for file in sorted(package.glob("*.py")):
        code.update(file.read_bytes())
    return {
        "index": xxhash.xxh3_128_hexdigest(Path(index).read_bytes()),
        "splits": xxhash.xxh3_128_hexdigest(Path(splits).read_bytes()),
        "code": code.hexdigest(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "sources": [_stamp(path) for path in sources],
        **about,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _line(commit: Commit) -> str:
    return json.dumps(vars(commit), separators=(",", ":")) + "\n"
