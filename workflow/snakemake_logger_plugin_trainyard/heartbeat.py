"""What a running training says about itself: checkpoints/{suite}/{run}/progress.json, here or in the run's own object store."""

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from snakemake_logger_plugin_trainyard.words import duration, span

SILENT = 180.0  # seconds without news that are worth telling
STORAGE = Path(".trainyard/storage.json")  # where jobs on other machines bring theirs; a call with a storage writes it


@dataclass(frozen=True)
class Heartbeat:
    """One progress.json; `updated` and `pid_started` in epoch seconds where they can be read so."""

    suite: str
    run: str
    values: dict[str, Any]
    updated: float

    @property
    def age(self) -> float:
        return max(0.0, time.time() - self.updated)

    def number(self, name: str) -> float | None:
        value = self.values.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def left(self) -> tuple[float, float] | None:
        """Seconds left, low and high, counted down since the training said so."""
        middle = self.number("eta_seconds")
        low, high = self.number("eta_low"), self.number("eta_high")
        if middle is None and low is None:
            return None
        low = low if low is not None else 0.8 * (middle or 0)
        high = high if high is not None else 1.25 * (middle if middle is not None else low)
        return max(0.0, low - self.age), max(0.0, high - self.age)

    def words(self) -> str:
        """`epoch 3/10  loss 0.523  40–50 s left`."""
        parts = []
        epoch, epochs = self.number("epoch"), self.number("epochs")
        if epoch is not None:
            parts.append(f"epoch {epoch:g}" + (f"/{epochs:g}" if epochs else ""))
        loss = self.number("validation_loss")
        loss = loss if loss is not None else self.number("loss")
        if loss is not None:
            parts.append(f"loss {loss:.3g}")
        left = self.left()
        if self.age > SILENT:
            parts.append(f"no news for {duration(self.age)}")
        elif left:
            parts.append(f"{span(*left)} left" if left[1] >= 0.95 else "nearly done")
        return "  ".join(parts)


def seconds_of(value: Any) -> float | None:
    """Epoch seconds of a number or an ISO time (a time without zone is local)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return None


def read_heartbeat(suite: str, run: str, folder: Path = Path("checkpoints")) -> Heartbeat | None:
    """The newest heartbeat of a run, from here or from another machine, or None where there is none that can be read."""
    there = stored().folder
    found = [_read(folder, suite, run, own=True), _read(there, suite, run, own=False) if there else None]
    return max(filter(None, found), key=lambda beat: beat.updated, default=None)


def all_heartbeats(folder: Path = Path("checkpoints")) -> list[Heartbeat]:
    """The newest heartbeat of every run, by suite and run."""
    there = stored().folder
    paths = [p for place in (folder, there) if place for p in place.glob("*/*/progress.json")]
    found = [read_heartbeat(suite, run, folder) for suite, run in sorted({(p.parent.parent.name, p.parent.name) for p in paths})]
    return [h for h in found if h]


@dataclass(frozen=True)
class Stored:
    """Where jobs on other machines bring their checkpoints and heartbeats: an address, and the folder if that is on this machine."""

    address: str | None = None
    folder: Path | None = None


def stored() -> Stored:
    """That of the last call with a storage; empty where there was none."""
    try:
        content = json.loads(STORAGE.read_text(encoding="utf-8"))
        return Stored(str(content["checkpoints"]), Path(content["folder"]) if content["folder"] else None)
    except (OSError, ValueError, KeyError, TypeError):
        return Stored()


def _read(folder: Path, suite: str, run: str, own: bool) -> Heartbeat | None:
    """`own`: written by a training on this machine; else by a machine whose clock may be another, so the file's time counts."""
    path = folder / suite / run / "progress.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        arrived = path.stat().st_mtime
        updated = (seconds_of(values.get("updated")) if own else None) or arrived
    except (OSError, ValueError, AttributeError):
        return None
    return Heartbeat(suite, run, values, updated)
