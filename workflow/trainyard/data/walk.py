"""Listing a folder of samples by name, many directory reads in flight, without opening a file.

What is decided here: hidden files and folders are never listed. A link is followed only to a file inside the root; a link
to a folder is not followed (inside the root the folder is listed under its own name; outside it is not ours). What is left
out for such a reason comes back as a refused entry, so that it ends in quarantine.csv.
"""

import os
import re
import stat
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainyard.data.errors import DataError
from trainyard.data.names import shorten, to_text
from trainyard.data.patience import Patience

THREADS = 32  # directory reads in flight: on a mount with 50 ms an answer, 32 keep it busy; locally they cost nothing
STATS = 128  # files whose size is asked for in one task
SUFFIXES = {
    "audio": (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".rf64"),
    "midi": (".mid", ".midi", ".kar", ".rmi", ".smf"),
    "video": (".npz", ".npy"),
    "tabular": (".csv", ".tsv", ".txt", ".data"),
    "chat": (".jsonl", ".ndjson", ".json"),
}


class Found:
    """A file below the root: its path as text (see names), its size in bytes, and why it cannot be used.

    No dataclass: what makes those takes longer to load than all of this, and commands that are done in a second import it.
    """

    __slots__ = ("path", "refused", "size")

    def __init__(self, path: str, size: int, refused: str | None = None):
        self.path, self.size, self.refused = path, size, refused


def base_folder(root: Path) -> Path:
    """The folder that paths are relative to; a root may be a single file."""
    return root if root.is_dir() else root.parent


def list_samples(root: Path, patterns: Sequence[str], kind: str, skip: Sequence[str] = ()) -> list[Found]:
    """Files of a root that fit one of the patterns, sorted by path. Raises DataError when there are none.

    `kind` is the format: with the default pattern `**/*` only files with its endings count (in any case).
    `skip` are paths that are not samples, such as the file of annotations.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; mount it or correct the root")
    others = {*skip, "manifest.json"}
    if not root.is_dir():
        files = _sizes(os.path.join(root.parent, ""), [root.name])[0]
        if files[0].refused is not None:
            raise DataError(f"{root}: {files[0].refused}; correct the root")
        return files
    fits = compile_globs(patterns)
    if tuple(patterns) == ("**/*",):
        endings = SUFFIXES[kind]
        fits = lambda path: path.lower().endswith(endings)  # noqa: E731
    files = walk(root, lambda path: path not in others and fits(path))
    if not any(f.refused is None for f in files):
        raise DataError(_nothing(root, patterns, kind, files))
    return files


def _nothing(root: Path, patterns: Sequence[str], kind: str, refused: list[Found]) -> str:
    looked = f"files ending in {' '.join(SUFFIXES[kind])}" if tuple(patterns) == ("**/*",) else f"files that fit {' or '.join(patterns)}"
    there = walk(root, lambda path: True)
    endings = Counter(os.path.splitext(f.path)[1].lower() or "no ending" for f in there if not f.path.endswith("/"))
    found = ", ".join(f"{n} {ending}" for ending, n in endings.most_common(5)) or "nothing"
    text = f"{root}: no {kind} sample found: looked for {looked}, found {found}"
    if refused:
        text += f"; left out: {shorten(refused[0].path)} ({refused[0].refused})"
    flat = [p for p in patterns if "/" not in p]
    deeper = next((f"**/{p}" for p in flat if any(map(compile_globs([f"**/{p}"]), (f.path for f in there)))), None)
    advice = f"`*` stops at a folder: try glob '{deeper}'" if deeper else "correct root or glob"
    return f"{text}; {advice}"


def compile_globs(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test for relative paths. `**/` stands for any folders, `*` and `?` stop at a slash, `[a-z]` is one character."""
    compiled = re.compile("|".join(f"(?:{_glob(p)})" for p in patterns), re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None


def _glob(pattern: str) -> str:
    out, rest = "", pattern.removeprefix("./")
    while rest:
        if rest.startswith("**/"):
            out, rest = out + "(?:[^/]+/)*", rest[3:]
        elif rest.startswith("**"):
            out, rest = out + ".*", rest[2:]
        elif rest[0] in "*?":
            out, rest = out + ("[^/]*" if rest[0] == "*" else "[^/]"), rest[1:]
        elif found := re.match(r"\[(!?)(\]?[^\]/]*)\]", rest):
            body = found[2].replace("\\", "\\\\").replace("^", "\\^").replace("[", "\\[")
            out, rest = out + f"[{'^/' if found[1] else ''}{body}]", rest[found.end() :]
        else:
            out, rest = out + re.escape(rest[0]), rest[1:]
    return out


def walk(root: Path, wanted: Callable[[str], bool], threads: int = THREADS) -> list[Found]:
    """Every wanted file below a folder, sorted by path; `wanted` is asked with the path as text."""
    it = _Walk(root, wanted)
    it.here()
    if it.is_left():
        it.in_threads(threads)
    it.found.sort(key=lambda f: f.path)
    return it.found


Listed = tuple[list[Found], list[str], list[str]]  # entries; folders in there; names of files whose size is still unknown


def _never(done: int) -> bool:
    return False


class _Walk:
    """What is found of a folder so far, and what is left to be looked at."""

    def __init__(self, root: Path, wanted: Callable[[str], bool]):
        self.found: list[Found] = []
        self._top, self._real, self._wanted = os.path.join(root, ""), os.path.realpath(root), wanted
        self._folders, self._unsized = deque([""]), deque[list[str]]()

    def is_left(self) -> bool:
        return bool(self._folders or self._unsized)

    def here(self) -> None:
        """Look until all is found, or the storage makes one wait."""
        slow = False
        while self.is_left() and not slow:
            patience = Patience()
            listed = self._next(patience.ends)()
            self._take(listed)
            slow = patience.ends(sum(len(part) for part in listed))

    def in_threads(self, threads: int) -> None:
        from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

        with ThreadPoolExecutor(threads) as pool:
            pending: set[Future[Listed]] = set()
            while pending or self.is_left():
                while len(pending) < 2 * threads and self.is_left():
                    pending.add(pool.submit(self._next()))
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    self._take(future.result())

    def _next(self, stop: Callable[[int], bool] = _never) -> Callable[[], Listed]:
        """The next look at the storage. Sizes first: a folder more is read only when there is room for its files."""
        if self._unsized:
            return partial(_sizes, self._top, self._unsized.popleft(), stop)
        return partial(_list, self._top, self._folders.popleft(), self._real, self._wanted)

    def _take(self, listed: Listed) -> None:
        files, deeper, names = listed
        self.found += files
        self._folders += deeper
        self._unsized += (names[i : i + STATS] for i in range(0, len(names), STATS))


def _list(top: str, folder: str, real: str, wanted: Callable[[str], bool]) -> Listed:
    """One directory, "" for the top, else ending in a slash: refused entries, folders in it, files whose size is still unknown."""
    refused: list[Found] = []
    folders: list[str] = []
    names: list[str] = []
    try:
        with os.scandir(top + folder) as scan:
            for entry in scan:
                if entry.name.startswith("."):
                    continue
                path = folder + entry.name
                text = to_text(path)
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    inside = target == real or target.startswith(real.rstrip("/") + "/")
                    if os.path.isdir(target):
                        if not inside:
                            refused.append(Found(text + "/", 0, f"link to a folder outside the root is not followed: {to_text(target)}"))
                    elif wanted(text):
                        if not inside:
                            refused.append(Found(text, 0, f"link out of the root is not followed: {to_text(target)}"))
                        else:
                            names.append(path)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path + "/")
                elif wanted(text):
                    names.append(path)
    except OSError as error:
        if not folder:
            raise DataError(f"{os.path.normpath(top)}: cannot be listed: {error.strerror}; check its rights and its mount") from None
        return [Found(to_text(folder), 0, f"folder cannot be listed: {error.strerror}")], [], []
    return refused, folders, names


def _sizes(top: str, names: list[str], stop: Callable[[int], bool] = _never) -> Listed:
    """Files with their sizes; `stop(number of them)` leaves the rest as it is."""
    found: list[Found] = []
    for name in names:
        if stop(len(found)):
            break
        path, text = top + name, to_text(name)
        try:
            status = os.stat(path)
        except OSError as error:
            found.append(Found(text, 0, "link to nothing" if os.path.islink(path) else f"cannot be looked at: {error.strerror}"))
            continue
        if not stat.S_ISREG(status.st_mode):
            found.append(Found(text, 0, "not a regular file"))
        else:
            found.append(Found(text, status.st_size, None if status.st_size else "empty file (0 bytes)"))
    return found, [], names[len(found) :]
