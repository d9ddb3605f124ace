"""What a local copy has done so far, written down as it goes, so that a copy that was killed goes on where it was.

A line is a commit: outcomes of consecutive samples of one split, totals, and what the unfinished packs hold by then. A line that
is cut off does not count. The first line says what the copy was made from (index, splits, settings, code, libraries): of another,
nothing is used.
"""

import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

PORTION = 4096  # outcomes that are compared with their sources at once
# Of these the values in a pack come; a pack of two versions would be one that nobody could make again. Chat rows need none.
AUDIO, MIDI = ("numpy", "scipy", "soundfile", "soxr"), ("numpy", "symusic", "pretty_midi", "mido")
LIBRARIES = {"audio": AUDIO, "midi": MIDI, "paired": (*AUDIO, *MIDI), "video": ("numpy",), "tabular": ("numpy",), "chat": ()}


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


@dataclass(frozen=True, slots=True)
class _Line:
    """Where a commit lies in the journal: only that is kept in memory, for there may be outcomes of millions of samples."""

    split: str
    count: int
    finished: bool
    at: int
    size: int


class Outcomes:
    """The outcomes of some commits, read from the journal each time they are gone through."""

    def __init__(self, journal: "Journal", lines: Sequence[_Line]):
        self._journal, self._lines = journal, lines

    def __len__(self) -> int:
        return sum(line.count for line in self._lines)

    def __iter__(self) -> Iterator[list[Outcome]]:
        """Those of each commit."""
        return (self._journal.commit(line).outcomes for line in self._lines)


@dataclass
class Kept:
    """What can be used of one split."""

    outcomes: Outcomes
    last: Commit | None = None


class Journal:
    """The commits of a work folder. `why_anew` says why an earlier journal is not used, if there was one."""

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path, self.why_anew = path, ""
        self._head = json.dumps(identity, sort_keys=True).encode()
        self._lines = list(self._read())
        self._file: Any = None

    def check(self, unchanged: Callable[[Sequence[Outcome]], int]) -> None:
        """Forget everything from the first sample on whose source has changed. `unchanged`: how many of some outcomes, from the first
        on, still hold."""
        for first, outcomes in self._portions():
            if (good := unchanged(outcomes)) == len(outcomes):
                continue
            number = first
            while good >= self._lines[number].count:
                good -= self._lines[number].count
                number += 1
            self.why_anew = "a source has changed since"
            split = self._lines[number].split
            # The parts of a finished pack are gone: it can only be made as a whole.
            whole = any(line.finished for line in self._lines[number:] if line.split == split)
            del self._lines[self._first_of(split) if whole else number :]
            return

    def of(self, split: str) -> Kept:
        lines = [line for line in self._lines if line.split == split]
        return Kept(Outcomes(self, lines), self.commit(lines[-1]) if lines else None)

    def forget(self, split: str, why: str) -> Kept:
        """Drop a split and what came after it, on disk too; nothing of it is left then."""
        self.why_anew = why
        del self._lines[self._first_of(split) :]
        self.open()
        return Kept(Outcomes(self, []))

    def open(self) -> None:
        """Write what is kept anew, and be ready for more."""
        if self.why_anew:
            print(f"an earlier copy was stopped here; not all of it can be used: {self.why_anew}", flush=True)
            self.why_anew = ""
        self.close()
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        self._file = open(temporary, "wb")  # noqa: SIM115 - open for the life of the journal
        self._file.write(self._head + b"\n")
        moved = []
        for line in self._lines:
            moved.append(replace(line, at=self._file.tell()))
            self._file.write(self._text(line) + b"\n")
        self._lines = moved
        self._file.flush()
        os.replace(temporary, self.path)

    def add(self, commit: Commit) -> None:
        self._file.write(json.dumps(vars(commit), separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def commit(self, line: _Line) -> Commit:
        return _commit(self._text(line))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _portions(self) -> Iterator[tuple[int, list[Outcome]]]:
        """Outcomes of consecutive commits, enough to keep many looks at a mount in flight, and the number of the first commit."""
        first, outcomes = 0, list[Outcome]()
        for number, line in enumerate(self._lines):
            outcomes += self.commit(line).outcomes
            if len(outcomes) >= PORTION:
                yield first, outcomes
                first, outcomes = number + 1, []
        if outcomes:
            yield first, outcomes

    def _first_of(self, split: str) -> int:
        return next((i for i, line in enumerate(self._lines) if line.split == split), len(self._lines))

    def _text(self, line: _Line) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(line.at)
            return file.read(line.size)

    def _read(self) -> Iterator[_Line]:
        try:
            file = open(self.path, "rb")  # noqa: SIM115
        except OSError:
            return
        with file:
            head = file.readline()
            if head.endswith(b"\n") and head[:-1] != self._head:
                self.why_anew = "it was made from another index, division, settings or code"
            if head != self._head + b"\n":
                return
            at = len(head)
            for text in file:
                try:
                    commit = _commit(text)
                except (ValueError, TypeError, KeyError):
                    return
                if not text.endswith(b"\n"):  # cut off by a kill
                    return
                yield _Line(commit.split, len(commit.outcomes), commit.finished, at, len(text) - 1)
                at += len(text)


def _commit(text: bytes) -> Commit:
    values = json.loads(text)
    return Commit(**{**values, "outcomes": [Outcome(*o) for o in values["outcomes"]]})


def identity_of(index: str, splits: str, format: str, about: dict[str, Any], sources: Sequence[Path]) -> dict[str, Any]:
    """What a copy is made from: contents of index and splits, its settings, this package's code, versions of the libraries that read
    its format, and size and time of the files that rows point into."""
    package = Path(__file__).parent
    code = xxhash.xxh3_64()
    for file in sorted(package.glob("*.py")):
        code.update(file.read_bytes())
    return {
        "index": _content(index),
        "splits": _content(splits),
        "code": code.hexdigest(),
        "libraries": {name: _version(name) for name in LIBRARIES[format]},
        "sources": [_stamp(path) for path in sources],
        **about,
    }


def _content(path: str) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
