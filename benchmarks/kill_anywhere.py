#!/usr/bin/env python
"""Kill a training with SIGKILL again and again, and see whether what comes out is what an undisturbed training gives, to the byte.

    python benchmarks/kill_anywhere.py --kills 3100       # a tiny model, thousands of lives: about eight minutes on one core
    python benchmarks/kill_anywhere.py --kills 100 --prove  # and break harness and checkpoints on purpose: each must be found
    python benchmarks/kill_anywhere.py --architectures    # every architecture, 100 kills through snakemake (kill_architectures.py)

A life is a process of its own that runs the production code and tells when a save begins and ends (killed_training.py). Half of the
kills wait for a save and strike within the time that one takes; the others strike at any time. A kill counts when the kernel says
that the process died of SIGKILL and the training had not ended. Some of the newest checkpoints are then damaged as a power loss
would. The next life goes on; when a training ends, its weights, history and predictions are compared with those of one that nobody
killed, and every step's items with a permutation.
"""

import argparse
import contextlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from killed_training import BEGINS, ENDS, FINISHED, SABOTAGES, fingerprint, import_all, items_fault, make_packs, start

DAMAGED = 0.06  # chance after a kill that the newest checkpoint is damaged too, once a training
SEEDS = 3  # trainings of so many seeds take turns
MISSES = 12  # trainings in a row without a hit, after which the harness gives up


@dataclass
class Tally:
    """What the kills did."""

    kills: int = 0
    mid_save: int = 0
    damaged: int = 0
    passed_over: int = 0
    lives: int = 0
    runs: int = 0
    missed: int = 0  # trainings in a row that ended before they were hit
    pace: float = 1.0  # how fast trainings are beside the undisturbed one: other work on the machine comes and goes
    places: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def hear(pipe: int, until: float, heard: bytearray, saves: int | None = None) -> bool:
    """Listen until a time, or until `saves` saves have begun; False when the life is over."""
    while (left := until - time.monotonic()) > 0 and (saves is None or heard.count(BEGINS) < saves):
        if select.select([pipe], [], [], left)[0]:
            data = os.read(pipe, 64)
            if not data:
                return False
            heard += data
    return True


def place_of(folder: Path) -> str:
    """What a kill within a save left: how far the save had come."""
    store = next((folder / "checkpoints").glob("*/"), None)
    names = sorted(p.name for p in store.iterdir()) if store else []
    if any(n.startswith(".step") or n.startswith(".best") for n in names):
        return "a file half written"
    if any(n.startswith(".manifest") for n in names):
        return "a manifest half written"
    from trainyard.train.checkpoint import checked_entries, read_json

    known: list[str] = []
    with contextlib.suppress(OSError, ValueError):  # none yet, or one that was damaged on purpose
        known = [e["file"] for e in checked_entries(read_json(store / "manifest.json"))] if store else []
    newest = max((n for n in names if n.startswith("step")), default="")
    return "nothing: before or after the writing" if newest in known else "a file that is not in the manifest"


def damage(folder: Path, rng: random.Random) -> str | None:
    """Hurt the newest entered checkpoint or the manifest as a power loss does; which. None when there is only one checkpoint."""
    store = next((folder / "checkpoints").glob("*/"), None)
    if store is None or not (store / "manifest.json").exists() or not (store / "manifest.earlier.json").exists():
        return None
    newest = store / json.loads((store / "manifest.json").read_text())[-1]["file"]
    path = rng.choice([newest, newest, store / "manifest.json"])
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        data = data[: rng.randrange(len(data))]
    elif path.suffix == ".json":
        data = bytearray(len(data))  # a file whose blocks never came to the disk
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return path.name


def undisturbed(packs: dict[str, str], folder: Path, seed: int) -> tuple[dict[str, str], float, float]:
    """What an uninterrupted training gives, the seconds it takes and those of a save."""
    folder.mkdir()
    began = time.monotonic()
    pid, pipe = start(packs, folder, seed, "")
    times: list[float] = []
    while data := os.read(pipe, 1):
        times.append(time.monotonic() if data != FINISHED else 0)
    _, status = os.waitpid(pid, 0)
    os.close(pipe)
    if status or items_fault(folder):
        raise RuntimeError(f"the undisturbed training failed: {(folder / 'log').read_text()}")
    saves = [b - a for a, b in zip(times[:-1:2], times[1::2])]
    return fingerprint(folder), time.monotonic() - began, sum(saves) / len(saves)


def one_run(packs: dict[str, str], folder: Path, seed: int, whole: float, save: float, kills: int, rng: random.Random,
            sabotage: str, tally: Tally) -> None:  # fmt: skip
    """One training from kill to kill to its end; at most `kills` of them."""
    folder.mkdir()
    landed, hurt = 0, []
    while True:
        pid, pipe = start(packs, folder, seed, sabotage)
        tally.lives += 1
        heard, last = bytearray(), landed >= kills
        if last or sabotage == "no-kill":
            alive = hear(pipe, time.monotonic() + 60 * whole + 10, heard)
        elif rng.random() < 0.55:
            alive = hear(pipe, time.monotonic() + 60, heard, saves=rng.randint(1, 4))
            if alive:
                hear(pipe, time.monotonic() + rng.uniform(0, save * tally.pace), heard)
        else:
            alive = hear(pipe, time.monotonic() + rng.uniform(0, 0.4 * whole * tally.pace), heard)
        if alive and sabotage != "no-kill":
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        while data := os.read(pipe, 64):
            heard += data
        os.close(pipe)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and FINISHED not in heard:
            landed += 1
            tally.kills += 1
            if heard.count(BEGINS) > heard.count(ENDS):
                tally.mid_save += 1
                tally.places[place_of(folder)] += 1
            if rng.random() < DAMAGED and not hurt and (name := damage(folder, rng)):
                hurt.append(name)
            continue
        log = (folder / "log").read_text()
        tally.damaged += len(hurt)
        tally.passed_over += sum(f"{name} is not taken" in log or f"{name} cannot be read" in log for name in hurt)
        if status and not os.WIFSIGNALED(status):
            tally.faults.append(f"a life ended with {os.waitstatus_to_exitcode(status)}: {log[-300:]}")
        return


def kill(kills: int, seed: int, sabotage: str, place: str | None, stop_at_fault: bool) -> Tally:
    """Trainings, each killed many times, until that many kills have landed."""
    import_all()
    tally, rng = Tally(), random.Random(seed)
    with TemporaryDirectory(dir=place) as text:
        root = Path(text)
        packs = make_packs(root)
        wanted = [undisturbed(packs, root / f"whole{s}", s) for s in range(SEEDS if kills > 100 else 1)]
        began = time.monotonic()
        while tally.kills < kills and not (stop_at_fault and tally.faults):
            which, folder = tally.runs % len(wanted), root / f"run{tally.runs}"
            reference, whole, save = wanted[which]
            before = tally.kills
            one_run(packs, folder, which, whole, save, kills - tally.kills, rng, sabotage, tally)
            if not (folder / "out" / "train.json").exists() or fingerprint(folder) != reference:
                tally.faults.append(f"run {tally.runs} (seed {which}): the result is another one")
            elif fault := items_fault(folder):
                tally.faults.append(f"run {tally.runs} (seed {which}): {fault}")
            hit = tally.kills > before
            tally.missed = 0 if hit else tally.missed + 1
            tally.pace = min(1.0, 1.05 * tally.pace) if hit else max(0.1, 0.7 * tally.pace)
            if tally.missed > MISSES:
                tally.faults.append(f"no kill landed in {tally.missed} trainings, one after another")
                break
            shutil.rmtree(folder)
            tally.runs += 1
            if tally.runs % 10 == 0:
                print(f"\r{tally.kills} kills, {tally.runs} runs, {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
            if len(tally.faults) > 20:
                break
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return tally


def judge(tally: Tally, kills: int) -> bool:
    """Print what happened; whether it is what was claimed."""
    share = tally.mid_save / max(1, tally.kills)
    print(f"{tally.kills} kills landed in {tally.lives} lives of {tally.runs} trainings")
    print(f"{tally.mid_save} of them in the middle of a save ({share:.0%}), which left behind:")
    for place, count in tally.places.most_common():
        print(f"  {count:5d}  {place}")
    print(f"{tally.damaged} newest checkpoints or manifests damaged besides; {tally.passed_over} passed over, each with a line in the log")
    if tally.kills < kills:
        tally.faults.append(f"only {tally.kills} of {kills} kills landed")
    if kills >= 100 and share < 0.25:
        tally.faults.append("less than a quarter of the kills hit a save")
    if tally.damaged > tally.passed_over:
        tally.faults.append("a damaged file was taken without a word")
    for fault in tally.faults[:5]:
        print(f"FAULT: {fault}")
    if not tally.faults:
        print(f"all {tally.runs} trainings: weights, history and predictions byte-equal to undisturbed ones, every item once an epoch")
    return not tally.faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="how many kills must land (3100; with --architectures 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of when and where they strike")
    parser.add_argument("--folder", help="where the trainings lie (default: the temporary folder); its disk's fsync sets the pace")
    parser.add_argument("--sabotage", choices=SABOTAGES, default="", help="break one thing on purpose")
    parser.add_argument("--prove", action="store_true", help="then every sabotage in turn: the harness must find each")
    parser.add_argument("--architectures", action="store_true", help="every architecture, through snakemake")
    args = parser.parse_args()
    if args.architectures:
        from kill_architectures import kill_architectures

        return kill_architectures(args.kills or 100, args.seed)
    began = time.monotonic()
    kills = args.kills or 3100
    good = judge(kill(kills, args.seed, args.sabotage, args.folder, False), kills)
    for sabotage in SABOTAGES if args.prove else ():
        seen = bool(kill(60, args.seed, sabotage, args.folder, True).faults)
        print(f"sabotage {sabotage}: {'found' if seen else 'NOT FOUND'}")
        good &= seen
    print(f"{time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, seed {args.seed}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
