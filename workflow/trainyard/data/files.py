"""Small file helpers: atomic replacement, stable hashes, JSON."""

import binascii
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any


def beside(path: Path) -> Path:
    """A name in the folder of `path`, for what is to take its place: this process's own. What killed processes of this machine have
    left there under such names is removed."""
    # 50 letters: a file name has 255 bytes at most.
    prefix = f".{path.name[-50:]}.{binascii.crc32(os.uname().nodename.encode()):08x}-"
    for name in os.listdir(path.parent) if path.parent.is_dir() else ():
        if name.startswith(prefix) and name.endswith(".tmp") and _is_gone(name[len(prefix) : -len(".tmp")]):
            leftover = path.with_name(name)
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
    return path.with_name(f"{prefix}{os.getpid()}.tmp")


def _is_gone(pid: str) -> bool:
    """Whether no process of this machine has this number."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OSError):
        pass
    return False


@contextmanager
def replacing(path: str | os.PathLike, sync: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, synced, when the block ends well; else it is removed. Without `sync` it is
    on the disk already, or need not be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder beside `path`; when the block ends well its files, synced, take their places in `path`."""
    path = Path(path).absolute()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file is where the output folder should be", str(path))
    temporary = beside(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        path.mkdir(exist_ok=True)
        files = sorted(temporary.iterdir())
        with ThreadPoolExecutor(4) as pool:  # the disk serves several at once in the time of one
            list(pool.map(_sync, files))
        for file in files:
            os.replace(file, path / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folders(folders: Iterable[str]) -> None:
    """Bring the files that lie directly in these folders to the disk. Raises OSError.

    Where the system can, each file system as a whole: file by file it would commit to its journal once for each of them.
    """
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        files = (Path(entry) for folder in folders for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(_sync, files))
        return
    for folder in {os.stat(folder).st_dev: folder for folder in folders}.values():
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if syncfs(handle):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)
        finally:
            os.close(handle)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """`value` as indented JSON, atomically; NaN and infinity are refused (they are not JSON)."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """`value` as indented JSON; raises ValueError for NaN and infinity."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def json_lines(value: Any, depth: int = 2, margin: str = "\n") -> str:
    """`value` as JSON with a line an entry, down to a depth; below it, and lists of plain values, in one line."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not depth or not any(isinstance(item, dict | list) for item in inner):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    named = isinstance(value, dict)
    names = [f"{json.dumps(key, ensure_ascii=False)}: " for key in value] if named else [""] * len(value)
    entries = (name + json_lines(item, depth - 1, margin + " ") for name, item in zip(names, inner))
    opening, closing = "{}" if named else "[]"
    return f"{opening}{margin} " + f",{margin} ".join(entries) + margin + closing


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file holds. Raises OSError, and ValueError with the name of a file that is no JSON, such as half of one."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None


def write_text(path: str | os.PathLike, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def unit_hash(text: str, salt: str) -> float:
    """A number in [0, 1) that depends on text and salt alone, on any machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), key=_key(salt), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / 2**64


@lru_cache(64)
def _key(salt: str) -> bytes:
    return hashlib.blake2b(salt.encode(), digest_size=32).digest()


def stable_seed(*parts: Any) -> int:
    """A seed in [0, 2^63) from any parts with a stable repr."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def sha256_file(path: str | os.PathLike) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 22))  # large pieces: a thread that hashes seldom disturbs others
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
