"""Checkpoints that survive a kill at any moment.

A checkpoint is one safetensors file: weights and optimiser state as tensors, everything else as JSON in the header.
It is written beside, synced and renamed, and only then entered, with its sha256, in manifest.json, which is replaced
the same way; the manifest before it is kept. Reading starts at the newest entry and passes over any file that does not
fit, with a line that says why. No pickle is read.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from trainyard.data.files import read_json, replacing, sha256_file, write_json
from trainyard.data.tensors import header_bytes, read_header

MANIFEST, EARLIER = "manifest.json", "manifest.earlier.json"
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds: `tensors` by name, and `state`, plain JSON."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run and one fingerprint in one folder, used by one process at a time.

    The folder is named by the run's fingerprint; a checkpoint that another folder's run wrote is not taken.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        self.folder, self.keep = Path(folder), keep
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] | None = None
        self._best: dict | None = None  # the entry of the best that this process wrote, or read and found whole

    def lock(self, wait: float = 0.0, asked_to_stop: Callable[[], bool] = lambda: False) -> None:
        """Hold the folder until this process ends; a training that is just leaving is waited for, `wait` seconds at most.

        Raises RuntimeError when another process holds it.
        """
        import fcntl

        self._lock = open(self.folder / "lock", "a+")  # noqa: SIM115 - held for the life of the process
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < until and not asked_to_stop():
                    time.sleep(0.2)
                    continue
                self._lock.seek(0)
                who = self._lock.read(200).strip() or "another process"
                raise RuntimeError(
                    f"{self.folder}: another training of the same run is using these checkpoints ({who}); wait for it or stop it"
                ) from None
            except OSError as error:
                raise RuntimeError(
                    f"{self.folder}: this filesystem has no file locks ({error.strerror}), and two trainings of one run would spoil "
                    "each other's checkpoints; work in a folder on another filesystem"
                ) from None
        self._lock.truncate(0)
        self._lock.write(f"pid {os.getpid()} on {os.uname().nodename}\n")
        self._lock.flush()

    def save(self, step: int, snapshot: Snapshot, best: Snapshot | None) -> Path:
        """Write the checkpoint of a step; `best` is written beside it once an epoch, and referred to by name.

        Raises OSError when that cannot be done; what was saved before stays as it is.
        """
        entries = self._entries()
        try:
            return self._save(entries, step, snapshot, best)
        except OSError as error:
            intact = f"the checkpoint of step {entries[-1]['step']} is intact" if entries else "none was saved before"
            free = shutil.disk_usage(self.folder).free / 1e6
            raise OSError(
                f"{self.folder}: the checkpoint of step {step} cannot be saved: {error.strerror or error} ({free:.0f} MB free); {intact}. "
                "Make room, or keep fewer (checkpoint.keep), and run again"
            ) from None

    def _save(self, entries: list[dict], step: int, snapshot: Snapshot, best: Snapshot | None) -> Path:
        best_entry = None
        if best is not None:
            best_name = f"best-{best.state['epoch']:06d}.safetensors"
            # A file of that name that is there may be the damaged one for which its checkpoint was passed over.
            if self._best is None or self._best["file"] != best_name:
                self._best = {"file": best_name, "sha256": self._write(best_name, best)}
            best_entry = self._best
        name = f"step-{step:09d}.safetensors"
        entry = {"file": name, "step": step, "sha256": self._write(name, snapshot), "best": best_entry}
        entries = [e for e in entries if e["step"] < step] + [entry]
        self._enter(entries[-self.keep :])
        return self.folder / name

    def _enter(self, entries: list[dict]) -> None:
        """Put entries into the manifest, and remove what none refers to."""
        manifest, earlier = self.folder / MANIFEST, self.folder / EARLIER
        try:
            earlier.unlink(missing_ok=True)
            os.link(manifest, earlier)
        except OSError:
            pass  # none yet, or a filesystem without hard links: the earlier one is a second chance, no more
        write_json(manifest, entries)
        _sync_folder(self.folder)  # makes the renames durable, before anything is removed
        used = {e["file"] for e in entries} | {e["best"]["file"] for e in entries if e.get("best")}
        for path in self.folder.iterdir():
            stale = path.name.startswith(".") and path.name.endswith(".tmp")
            if stale or (path.suffix == ".safetensors" and path.name not in used):
                path.unlink(missing_ok=True)

    def latest(self, say=print, check: Callable[[Snapshot], None] = lambda _: None) -> tuple[Snapshot, Snapshot | None] | None:
        """The newest checkpoint that is whole and that `check` does not refuse (ValueError), and its best.

        Says which ones it passed over, and why.
        """
        for entry in reversed(self._entries(say)):
            try:
                snapshot = self._read(entry)
                check(snapshot)
                best = self._read(entry["best"]) if entry.get("best") else None
                self._best = entry["best"] if best else None
                return snapshot, best
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                say(f"checkpoint {entry.get('file')} is not taken ({' '.join(str(error).split())}); trying the one before")
        return None

    def _entries(self, say=lambda _: None) -> list[dict]:
        """Of the manifest and the one before it, oldest first: until the newest is durable, what it replaces is not removed."""
        found: dict[int, dict] = {}
        for name in (EARLIER, MANIFEST):
            try:
                entries = checked_entries(read_json(self.folder / name))
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                say(f"{self.folder / name} cannot be read ({error}); trying what was there before")
                continue
            # What the newer manifest no longer has may be gone by right; what it has must be there.
            found |= {e["step"]: e for e in entries if name == MANIFEST or (self.folder / os.path.basename(e["file"])).exists()}
        return [found[step] for step in sorted(found)]

    def _write(self, name: str, snapshot: Snapshot) -> str:
        """Stream the tensors into a file, so that saving needs no second copy of them; returns its sha256."""
        tensors = sorted(snapshot.tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
        fields = [(n, DTYPES[t.dtype], tuple(t.shape), t.numel() * t.element_size()) for n, t in tensors]
        header = header_bytes(fields, {"run": self.folder.name, "state": json.dumps(snapshot.state)})
        digest = hashlib.sha256(header)
        with replacing(self.folder / name) as temporary, open(temporary, "wb") as file:
            file.write(header)
            for _, tensor in tensors:
                data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
                digest.update(data)
                file.write(data)
        return digest.hexdigest()

    def _read(self, entry: dict) -> Snapshot:
        path = self.folder / os.path.basename(entry["file"])
        header = read_header(path)  # says what another file is that took its place
        if sha256_file(path) != entry["sha256"]:
            raise ValueError("its bytes differ from what was saved")
        if header.metadata.get("run") != self.folder.name:
            raise ValueError(f"another run wrote it: {header.metadata.get('run')}, this is {self.folder.name}")
        return Snapshot(load_file(path), json.loads(header.metadata["state"]))


def checked_entries(entries: Any) -> list[dict]:
    """Entries of a manifest. Raises ValueError when it is none."""
    if not isinstance(entries, list) or not all(_is_file(e) and type(e.get("step")) is int for e in entries):
        raise ValueError("not a manifest")
    if not all(e.get("best") is None or _is_file(e["best"]) for e in entries):
        raise ValueError("not a manifest")
    return entries


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("file"), str) and isinstance(entry.get("sha256"), str)


def _sync_folder(folder: Path) -> None:
    """Make renames durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
