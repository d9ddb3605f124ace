"""Checkpoints of one fingerprint in the storage: whole ones only, found by whoever goes on with the run.

Below suite/run/fingerprint/ lie the files, named by their SHA-256, and a manifest for each attempt that wrote any, put there last. So
two attempts that both think they are the one can never spoil each other's, and what a reader finds in a manifest is whole.
"""

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import Any

from trainyard.data.files import read_json, replacing, sha256_file, write_json
from trainyard.machines.s3 import address, listing

PROGRESS = "progress.json"  # of the run, beside its fingerprints; trainyard.train.progress writes it
MANIFEST = "manifest.json"  # of the run's own folder; trainyard.train.checkpoint writes it
FILE = re.compile(r"(step|best)-\d+\.safetensors")
KEEP = 2  # checkpoints that an attempt's manifest names
OTHERS = 3  # other fingerprints of the run that are kept
ABANDONED = timedelta(days=1)  # a file that no manifest names by then belongs to an upload that never ended


class Mirrored:
    """The storage's side of one checkpoint folder, checkpoints/suite/run/fingerprint."""

    def __init__(self, s3: Any, store: str, folder: Path):
        self.s3, self.folder = s3, folder
        self.bucket, prefix = address(store)
        self.run, self.fingerprint = prefix + "/".join(folder.absolute().parts[-3:-1]) + "/", folder.name
        self.prefix = f"{self.run}{self.fingerprint}/"
        self.own = f"{self.prefix}manifest-{socket.gethostname()}-{os.getpid()}-{time.time():.0f}.json"
        self.entries: list[dict] = []
        self._had: set[str] = set()  # files that our manifest named before
        self._word = b""

    # ---- to the storage ----------------------------------------------------------------------------------------
    def put(self, entry: dict) -> None:
        """Bring a checkpoint and its best weights there, the manifest last.

        Raises FileNotFoundError when the run has moved on and removed it, ValueError when its bytes are not what the manifest says.
        """
        there = {o["Key"] for o in listing(self.s3, self.bucket, self.prefix)}
        for part in _parts(entry):
            key = f"{self.prefix}{part['sha256']}.safetensors"
            if key not in there:
                with open(self.folder / os.path.basename(part["file"]), "rb") as file:  # stays readable when the run removes it
                    _verify(file, part)
                    self.s3.upload_fileobj(file, self.bucket, key, Config=_gentle())
        self.entries = [e for e in self.entries if e["step"] < entry["step"]][-KEEP + 1 :] + [entry]
        self.s3.put_object(Bucket=self.bucket, Key=self.own, Body=json.dumps(self.entries).encode())
        self._tidy()

    def _tidy(self) -> None:
        """Remove manifests that ours supersedes, and files that no manifest names: ours and theirs at once, others when abandoned."""
        objects = listing(self.s3, self.bucket, self.prefix)
        manifests = self._manifests(objects)
        newest = self.entries[-1]["step"]
        old = {key: e for key, e in manifests.items() if key != self.own and (not e or e[-1]["step"] <= newest)}
        named = {p["sha256"] for key, entries in manifests.items() if key not in old for e in entries for p in _parts(e)}
        loose = {o["Key"] for o in objects if o["Key"].endswith(".safetensors") and Path(o["Key"]).stem not in named}
        superseded = {f"{self.prefix}{p['sha256']}.safetensors" for entries in old.values() for e in entries for p in _parts(e)}
        abandoned = {o["Key"] for o in objects if datetime.now(UTC) - o["LastModified"] > ABANDONED}
        for key in [*old, *sorted(loose & (superseded | self._had | abandoned))]:
            self.s3.delete_object(Bucket=self.bucket, Key=key)
        self._had = {f"{self.prefix}{p['sha256']}.safetensors" for e in self.entries for p in _parts(e)}

    def put_progress(self) -> None:
        """Bring the training's last word there, for whoever looks from elsewhere; nothing where it said none."""
        try:
            word = (self.folder.parent / PROGRESS).read_bytes()
        except FileNotFoundError:
            return
        if word != self._word:
            self.s3.put_object(Bucket=self.bucket, Key=f"{self.run}{PROGRESS}", Body=word)
            self._word = word

    def forget_others(self) -> None:
        """Remove all but the newest few of the run's other fingerprints."""
        newest: dict[str, Any] = {}
        objects = [o for o in listing(self.s3, self.bucket, self.run) if o["Key"] != f"{self.run}{PROGRESS}"]
        for o in objects:
            name = o["Key"].removeprefix(self.run).split("/")[0]
            newest[name] = max(newest.get(name, o["LastModified"]), o["LastModified"])
        others = sorted((name for name in newest if name != self.fingerprint), key=newest.__getitem__, reverse=True)
        for o in objects:
            if o["Key"].removeprefix(self.run).split("/")[0] in others[OTHERS:]:
                self.s3.delete_object(Bucket=self.bucket, Key=o["Key"])

    # ---- from the storage --------------------------------------------------------------------------------------
    def fetch(self, say: Callable[[str], Any]) -> None:
        """Put the newest whole checkpoint into the run's folder, if it is newer than what lies there."""
        here = local_entries(self.folder)
        last = here[-1]["step"] if here else -1
        found = {e["step"]: e for entries in self._manifests(listing(self.s3, self.bucket, self.prefix)).values() for e in entries}
        for step in sorted((s for s in found if s > max(last, 0)), reverse=True):
            entry = found[step]
            try:
                for part in _parts(entry):
                    self._get(part)
            except (ValueError, self.s3.exceptions.ClientError) as error:
                say(f"the mirrored checkpoint of step {step} is not taken ({' '.join(str(error).split())}); trying the one before")
                continue
            names = {p["file"] for p in _parts(entry)}
            kept = [e for e in here if not names & {p["file"] for p in _parts(e)}]
            write_json(self.folder / MANIFEST, [*kept, entry])
            say(f"took the checkpoint of step {step} from the storage" + (f"; here was step {last}" if last >= 0 else ""))
            return

    def _get(self, part: dict) -> None:
        target = self.folder / part["file"]
        with replacing(target) as temporary:
            self.s3.download_file(self.bucket, f"{self.prefix}{part['sha256']}.safetensors", str(temporary), Config=_gentle())
            if sha256_file(temporary) != part["sha256"]:
                raise ValueError(f"the bytes of {part['file']} differ from what was saved")

    def _manifests(self, objects: list[dict]) -> dict[str, list[dict]]:
        """Entries of every attempt's manifest, oldest first; of one that cannot be read, none."""
        found = {}
        for o in objects:
            if o["Key"].endswith(".json"):
                try:
                    body = self.s3.get_object(Bucket=self.bucket, Key=o["Key"])["Body"].read()
                    found[o["Key"]] = _checked(json.loads(body))
                except ValueError:
                    found[o["Key"]] = []
                except self.s3.exceptions.NoSuchKey:
                    pass  # another attempt has just removed it
        return found


def local_entries(folder: Path) -> list[dict]:
    """Entries of the run's own manifest, oldest first; none where there is none that can be read."""
    try:
        return _checked(read_json(folder / MANIFEST))
    except (OSError, ValueError):
        return []


def _checked(entries: Any) -> list[dict]:
    """Raises ValueError when these are not a manifest's entries."""
    try:
        good = all(
            type(e["step"]) is int and all(FILE.fullmatch(p["file"]) and re.fullmatch("[0-9a-f]{64}", p["sha256"]) for p in _parts(e))
            for e in entries
        )
    except (TypeError, KeyError, AttributeError):
        good = False
    if not good:
        raise ValueError("not a manifest of checkpoints")
    return sorted(entries, key=lambda e: e["step"])


def _parts(entry: dict) -> list[dict]:
    """The files of a checkpoint: its best weights, if it has any, and itself."""
    return [part for part in (entry.get("best"), entry) if part]


def _verify(file: BufferedReader, part: dict) -> None:
    if hashlib.file_digest(file, "sha256").hexdigest() != part["sha256"]:
        raise ValueError(f"the bytes of {part['file']} differ from what the manifest says")
    file.seek(0)


def _gentle() -> Any:
    """One thread, no more: the training beside it has the cores."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(use_threads=False)
