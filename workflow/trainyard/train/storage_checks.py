"""Checks of storage: on what kind of mount data and checkpoints lie, and how fast it answers. Needs no torch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trainyard.data.mounts import describe
from trainyard.data.names import from_text, to_text
from trainyard.data.storage import Speed, probe, reads_for
from trainyard.train.check import Check, fail, ok, warn

SLOW_OPEN = 0.02  # seconds; a local disk takes a tenth of a millisecond, a spinning one ten
LOOKED_AT = 16  # raw files that are opened


def check_mounts(packs: Mapping[str, str], checkpoints: str | Path) -> list[Check]:
    """The packs and the checkpoints on a disk of this machine that answers."""
    out = []
    for name, path, advice in (
        ("storage", packs["train"], "a job copies its packs from there to its local disk first; better: let `results` lie on a local disk"),
        ("checkpoints", checkpoints, "saving waits for the network and locks may not hold there: put `checkpoints` on a local disk"),
    ):
        mount = describe(path)
        if mount.trouble:
            words = f"{mount.words} does not answer: {mount.trouble}"
            out.append(fail(name, words, "an answer", f"mount it again (fusermount -u {mount.point}; then as you mounted it)"))
        elif mount.local:
            out.append(ok(name, mount.words, "a local disk"))
        else:
            out.append(warn(name, mount.words, "a local disk", advice))
    return [check.of_machine() for check in out]


def check_speed(paths: Sequence[str]) -> tuple[list[Check], Speed | None]:
    """How fast packs are opened and read, without what the system holds of them in memory."""
    speed = probe(list(dict.fromkeys(paths)), seconds=1.0)
    if speed is None:
        return [], None
    slow = speed.latency > SLOW_OPEN
    advice = "opening a file takes long: put `results` on a local disk" if slow else ""
    return [(warn if slow else ok)("read", _words(speed), f"{SLOW_OPEN * 1e3:.0f} ms", advice)], speed


def check_far(paths: Sequence[str]) -> list[Check]:
    """How fast the mount answers from which packs were copied: what the first job on a machine waits for."""
    speed = probe(list(dict.fromkeys(paths)), seconds=2.0)
    if speed is None:
        return []
    seconds = sum(os.path.getsize(path) for path in set(paths)) / max(speed.megabytes * 1e6, 1) if speed.megabytes else 0
    wait = f"; a copy of all packs takes {seconds:,.0f} s a machine" if seconds >= 1 else ""
    return [ok("mount", f"{describe(paths[0]).words}; {_words(speed)}{wait}")]


def check_sources(root: str, paths: Sequence[str]) -> list[Check]:
    """The raw files: where they lie, how long opening one takes, and how many reads the local copy keeps in flight for that."""
    base = Path(root).expanduser()
    mount = describe(base)
    if mount.trouble:
        return [warn("sources", f"{mount.words} does not answer: {mount.trouble}", "an answer", "the packs are made: training goes on")]
    if not base.exists():
        return [ok("sources", f"{root} is not on this machine; its packs are")]
    if base.is_file():
        base, paths = base.parent, [to_text(base.name)]
    if not paths:
        return [ok("sources", f"{mount.words}; no index says which files")]
    some = [paths[i] for i in np.linspace(0, len(paths) - 1, min(len(paths), LOOKED_AT)).astype(int)]
    speed = probe([os.path.join(base, from_text(path)) for path in dict.fromkeys(some)], seconds=2.0)
    if speed is None:
        return [
            warn("sources", f"{mount.words}; no file could be read", "readable", "they have moved or lost their permissions since the copy")
        ]
    return [ok("sources", f"{mount.words}; {_words(speed)}; {reads_for(speed.latency)} reads in flight for a copy")]


def _words(speed: Speed) -> str:
    rate = f", {speed.megabytes:,.0f} MB/s" if speed.megabytes else ""
    return f"{speed.latency * 1e3:.2f} ms to open{rate}" + (" (from memory)" if speed.cached else "")
