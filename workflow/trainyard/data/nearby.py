"""Copies of packs on the disk of the machine that trains, where the packs themselves lie on a network.

Training reads a pack by memory map, in an order that changes with every epoch: on a network mount each batch would wait for it. The
folder is $TRAINYARD_LOCAL_DIR (variables and ~ in it are expanded), else the $SLURM_TMPDIR that some clusters give a job. Loaded by
name: what it does changes no byte that is learned from.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xxhash

from trainyard.data.files import replacing
from trainyard.data.mounts import Mount, describe
from trainyard.data.storage import free_bytes

FOLDER = "TRAINYARD_LOCAL_DIR"
KEEP = 14 * 86400.0  # seconds that a copy which nobody used stays
BLOCK = 8 << 20


def local_folder() -> Path | None:
    """Where this machine's copies go; None where nobody said."""
    told = os.environ.get(FOLDER) or os.environ.get("SLURM_TMPDIR")
    return Path(os.path.expandvars(told)).expanduser() / f"trainyard-{os.getuid()}" if told else None


def nearby(packs: Mapping[str, str], stop: Callable[[], bool] = lambda: False, say: Callable[[str], Any] = print) -> dict[str, str]:
    """The packs by split, those on a network replaced by a copy on this machine's disk.

    A copy is compared with what was read, is shared by all jobs of this user on this machine, and is made anew when the pack's size or time
    has changed. Where there is no room, or `stop()` came true meanwhile, the pack is read where it lies.
    """
    folder = local_folder()
    if folder is None:
        return dict(packs)
    near = {path: _near(path, folder, stop, say) for path in dict.fromkeys(packs.values())}
    return {split: near[path] for split, path in packs.items()}


def _near(path: str, folder: Path, stop: Callable[[], bool], say: Callable[[str], Any]) -> str:
    mount = describe(path)
    if mount.local:
        return path
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not describe(folder).local:
            say(f"note: {folder} is on {describe(folder).words} too, so {path} is read where it lies; set {FOLDER} to a local disk")
            return path
        status = os.stat(path)
        identity = f"{os.path.realpath(path)}|{status.st_size}|{status.st_mtime_ns}"
        target = folder / f"{xxhash.xxh3_64_hexdigest(identity.encode('utf-8', 'surrogateescape'))}{Path(path).suffix}"
        with _alone(target):
            return _copied(path, status.st_size, target, mount, stop, say)
    except OSError as error:
        say(f"note: {path} is read where it lies ({mount.words}): no copy in {folder}: {error.strerror or error}")
        return path


def _copied(path: str, size: int, target: Path, mount: Mount, stop: Callable[[], bool], say: Callable[[str], Any]) -> str:
    if target.exists() and target.stat().st_size == size:
        os.utime(target)
        return str(target)
    _sweep(target.parent)
    free = free_bytes(target.parent)
    if size > free:
        say(f"note: {path} is read where it lies ({mount.words}): {size / 1e9:.2f} GB, and {target.parent} has {free / 1e9:.2f} GB free")
        return path
    start = time.monotonic()
    with replacing(target) as temporary:
        with open(path, "rb", buffering=0) as source, open(temporary, "wb", buffering=0) as out:
            digest = xxhash.xxh3_128()
            for block in _blocks(source):
                if stop():
                    raise InterruptedError("asked to stop while copying")
                digest.update(block)
                out.write(block)
        with open(temporary, "rb", buffering=0) as written:
            again = xxhash.xxh3_128()
            for block in _blocks(written):
                again.update(block)
        if again.digest() != digest.digest():
            raise OSError(f"the copy differs from what was read: check the disk of {target.parent}")
    say(f"copied {path} ({size / 1e6:,.0f} MB) from {mount.words} to {target.parent} in {time.monotonic() - start:.1f} s")
    return str(target)


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One job copies; the others of this machine wait, and find the copy."""
    with open(target.with_name(f"{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(folder: Path) -> None:
    """Room: copies that nobody used for long. Who still reads one keeps it until it ends."""
    for old in folder.iterdir():
        with suppress(OSError):
            if old.suffix != ".lock" and time.time() - old.stat().st_mtime > KEEP:
                old.unlink()
