"""Attempts of one run under one call of Snakemake, so that retries end when they lead nowhere.

Snakemake tries a job again after any failure, up to its retries. A training that was stopped goes on; one that failed
without a new checkpoint would only fail again, and is refused before it costs anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trainyard.data.files import read_json, write_json
from trainyard.train.stopping import StartAnew

CALL = "TRAINYARD_CALL"  # names a call of Snakemake, for all its jobs on whatever machine


class GaveUp(RuntimeError):
    """The attempt before made no progress, and neither would this one."""


@contextmanager
def attempt(checkpoints: str | os.PathLike, call: str | None = None) -> Iterator[None]:
    """Keep in attempts.json how this attempt ends. Outside of a call (by hand) nothing is refused or kept.

    Raises GaveUp when the last attempt of the same call ended by itself without a new checkpoint, or the last two were
    killed without one.
    """
    call = os.environ.get(CALL) if call is None else call
    if not call:
        yield
        return
    folder = Path(checkpoints)
    path = folder / "attempts.json"
    last, now = _read(path), newest_steps(folder)
    same = last if last.get("call") == call and last.get("steps") == now else {}
    fruitless = same.get("fruitless", 0)
    if same and same.get("ended"):
        raise GaveUp(f"gave up: the attempt before made no progress ({same['ended']})")
    if same and fruitless:
        raise GaveUp("gave up: two attempts were killed before their first checkpoint; was the memory too small? (mem_mb)")
    record = {"call": call, "steps": now, "fruitless": fruitless + 1 if same else 0, "ended": None}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    try:
        yield
    except StartAnew:
        write_json(path, last)  # the process that goes on is the same attempt
        raise
    except Exception as error:
        with suppress(OSError):  # the disk may be what is wrong
            write_json(path, {**record, "ended": " ".join(str(error).split())[:300] or type(error).__name__})
        raise


def newest_steps(checkpoints: Path) -> dict[str, int]:
    """The step of the newest checkpoint, by fingerprint; those of step 0 hold no work."""
    steps = {}
    for manifest in sorted(checkpoints.glob("*/manifest.json")):
        with suppress(OSError, ValueError, TypeError, KeyError):
            steps[manifest.parent.name] = max(int(entry["step"]) for entry in read_json(manifest))
    return {name: step for name, step in steps.items() if step}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
