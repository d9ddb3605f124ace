"""Checkpoints that survive a kill at any moment.

A checkpoint is one safetensors file: weights and optimiser state as tensors, everything else as JSON in the header.
It is written beside, synced and renamed, and only then entered, with its sha256, in manifest.json, which is replaced
the same way. Reading starts at the newest entry and passes over any file whose hash does not fit. No pickle is read.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from safetensors.torch import load, save
from torch import Tensor

from trainyard.data.files import read_json, replacing, write_json


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds: `tensors` by name, and `state`, plain JSON."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run and one fingerprint in one folder, used by one process at a time."""

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        self.folder, self.keep = Path(folder), keep
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Hold the folder until this process ends. Raises RuntimeError when another process holds it."""
        import fcntl

        self._lock = open(self.folder / "lock", "a+")  # noqa: SIM115 - held for the life of the process
        try:
            fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(
                f"{self.folder}: another training of the same run is using these checkpoints; wait for it or stop it"
            ) from None

    def save(self, step: int, snapshot: Snapshot, best: Snapshot | None) -> Path:
        """Write the checkpoint of a step; `best` is written beside it once an epoch, and referred to by name."""
        entries = self._entries()
        best_name = None
        if best is not None:
            best_name = f"best-{best.state['epoch']:06d}.safetensors"
            known = {e["best"]["file"]: e["best"] for e in entries if e.get("best")}
            best_entry = known.get(best_name) or {"file": best_name, "sha256": self._write(best_name, best)}
        name = f"step-{step:09d}.safetensors"
        entry = {"file": name, "step": step, "sha256": self._write(name, snapshot), "best": best_entry if best_name else None}
        entries = [e for e in entries if e["step"] != step] + [entry]
        entries = sorted(entries, key=lambda e: e["step"])[-self.keep :]
        write_json(self.folder / "manifest.json", entries)
        self._sweep(entries)
        return self.folder / name

    def latest(self, say=print) -> tuple[Snapshot, Snapshot | None] | None:
        """The newest checkpoint that is whole, and its best. Says which ones it passed over."""
        for entry in reversed(self._entries(say)):
            try:
                snapshot = self._read(entry)
                best = self._read(entry["best"]) if entry.get("best") else None
                return snapshot, best
            except (OSError, ValueError) as error:
                say(f"checkpoint {entry.get('file')} is not whole ({error}); trying the one before")
        return None

    def _entries(self, say=lambda _: None) -> list[dict]:
        try:
            entries = read_json(self.folder / "manifest.json")
            return [e for e in entries if isinstance(e, dict) and {"file", "step", "sha256"} <= e.keys()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            say(f"{self.folder / 'manifest.json'} cannot be read ({error}); starting from the beginning")
            return []

    def _write(self, name: str, snapshot: Snapshot) -> str:
        tensors = {k: v.detach().cpu().contiguous() for k, v in snapshot.tensors.items()}
        data = save(tensors, {"state": json.dumps(snapshot.state)})
        with replacing(self.folder / name) as temporary:
            temporary.write_bytes(data)
        _sync_folder(self.folder)
        return hashlib.sha256(data).hexdigest()

    def _read(self, entry: dict) -> Snapshot:
        path = self.folder / os.path.basename(entry["file"])
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise ValueError("its bytes differ from what was saved")
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return Snapshot(load(data), json.loads(header["__metadata__"]["state"]))

    def _sweep(self, entries: list[dict]) -> None:
        used = {e["file"] for e in entries} | {e["best"]["file"] for e in entries if e.get("best")}
        for path in self.folder.iterdir():
            stale = path.name.startswith(".") and path.name.endswith(".tmp")
            if stale or (path.suffix == ".safetensors" and path.name not in used):
                path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
