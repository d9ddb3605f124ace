#!/usr/bin/env python
"""Kill the training of every architecture through the real workflow, and see whether the next `snakemake` gives the same bytes.

    python benchmarks/kill_anywhere.py --architectures [--kills 100] [--seed 0]

A round is one call of snakemake on one training of each architecture; in it every trainer is killed once with SIGKILL, half of them
when a file of a checkpoint is seen half written, the others at any time. In every third round snakemake itself is killed too, in the
middle of its work, and its trainers must leave by themselves. The next round is the next call of snakemake. A kill counts when
snakemake, which waited for the process, says that it died of SIGKILL. The last round is left alone; then weights, history and
predictions must be, to the byte, those of a first training that nobody disturbed.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

HOME = Path(__file__).parents[1]
sys.path.insert(0, str(HOME / "workflow"))
MOST_SECONDS = 900  # of one call
LEAVING = 30  # seconds in which the trainers of a killed snakemake must be gone
CHECKPOINT = {"every_epochs": 1, "every_steps": 4, "every_minutes": 0, "keep": 2}
VIDEO = {"epochs": 6, "options": {"feature_dim": 16, "width": 4}}
TOKENS = {"epochs": 6, "options": {"feature_dim": 16, "width": 4, "token_width": 16}}
# The suites with less data, so that a training lasts seconds, and a save every four steps.
SMALL: dict[str, dict] = {
    "kmidi": {
        "datasets": {"m4singer": {"generate": {"singers": 20, "phrases": 3}}, "lakh": {"generate": {"songs": 60, "bars": 16}}},
        "models": {"emotion_recognizer": {"epochs": 12}, "dynamics_engine": {"epochs": 20}, "harmony_predictor": {"epochs": 30},
                   "melody_transformer": {"epochs": 20}, "groove_predictor": {"epochs": 20}},
    },
    "crescendai": {
        "datasets": {"performances": {"generate": {"performers": 20, "pieces": 3}}},
        "models": {"audio_only": {"epochs": 12}, "midi_only": {"epochs": 12}, "fusion": {"epochs": 10}},
    },
    "mono_to_3d": {
        "promote": None, "ensemble": False,
        "datasets": {"trajectories": {"generate": {"samples": 240, "cameras": 1, "frames": 8, "size": 16},
                                      "features": {"cameras": 1, "frames": 8, "size": 16}}},
        "models": {"i3d": VIDEO, "slowfast": VIDEO, "transformer": TOKENS, "magvit": TOKENS},
    },
    "housebrain": {
        "datasets": {"plans_base": {"generate": {"rows": 400}}, "plans": {"generate": {"rows": 240}, "shards": 2}},
        "models": {"housebrain": {"epochs": 2, "base": {"steps": 40}, "options": {"generate": 2}}},
    },
    "aimedres": {"datasets": {"als": {"folds": 2}}, "models": {"als": {"epochs": 40}}},
}  # fmt: skip


@dataclass
class Tally:
    """What the kills did, by architecture."""

    kills: Counter = field(default_factory=Counter)
    mid_save: Counter = field(default_factory=Counter)
    snakemakes: int = 0
    calls: int = 0
    ends: int = 0  # trainings that came to their end, and were compared
    faults: list[str] = field(default_factory=list)


@dataclass
class Trainer:
    """A trainer that runs now, and when it is to be killed: at a save (the how many-th that is seen), or at a time."""

    pid: int
    saves: int
    until: float
    seen: set[str] = field(default_factory=set)
    killed: bool = False
    mid_save: bool = False


def chosen_runs() -> dict[tuple[str, str], str]:
    """(suite, run) → architecture: the first run of each."""
    from trainyard.config import list_runs, load_config

    config = load_config(json.loads(json.dumps(SMALL)), HOME)
    found: dict[str, tuple[str, str]] = {}
    for run in list_runs(config):
        found.setdefault(config.suites[run.suite].models[run.model].architecture, (run.suite, run.name))
    return {place: architecture for architecture, place in found.items()}


class Yard:
    """A folder in which the workflow runs."""

    def __init__(self, folder: Path, runs: dict[tuple[str, str], str]):
        self.folder, self.runs = folder, runs
        folder.mkdir(exist_ok=True)
        overlay = {s: {**v, "models": {n: {**m, "checkpoint": CHECKPOINT} for n, m in v["models"].items()}} for s, v in SMALL.items()}
        (folder / "small.json").write_text(json.dumps(overlay))

    def call(self, *more: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "-s", HOME / "Snakefile", "-d", self.folder, "--cores", str(os.cpu_count())]
        command += ["--workflow-profile", HOME / "profiles" / "default", "--configfile", self.folder / "small.json", *more, "--"]
        command += [f"results/{suite}/runs/{run}/train.json" for suite, run in self.runs]
        environment = {**os.environ, "NO_COLOR": "1"}
        with open(self.folder / "calls.log", "ab") as log:
            return subprocess.Popen([*map(str, command)], cwd=self.folder, env=environment, stdout=log, stderr=log)

    def trainers(self) -> dict[tuple[str, str], int]:
        """Process ids of the trainers of this folder by run, from the kernel's list."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = entry.read_bytes().decode(errors="replace").split("\0")
                if any(w.endswith("train_model.py") for w in words[:3]) and os.readlink(entry.parent / "cwd") == str(self.folder):
                    suite, run = words[words.index("--checkpoints") + 1].split("/")[1:3]
                    found[suite, run] = int(entry.parent.name)
        return found

    def half_written(self, place: tuple[str, str]) -> set[str]:
        """Files of checkpoints that are being written now."""
        found = set()
        for store in (self.folder / "checkpoints" / place[0] / place[1]).glob("*/"):
            with suppress(OSError):
                found |= {n for n in os.listdir(store) if n.startswith((".step", ".best", ".manifest"))}
        return found

    def results(self, place: tuple[str, str]) -> dict[str, str]:
        folder = self.folder / "results" / place[0] / "runs" / place[1]
        files = [*folder.glob("*.safetensors"), folder / "history.csv", folder / "predictions.parquet"]
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() if f.exists() else "is missing" for f in files}

    def ended_by_kill(self) -> set[tuple[str, str]]:
        """Runs that the last call of snakemake saw die of SIGKILL."""
        jobs = json.loads((self.folder / "results" / "summary.json").read_text())["jobs"]
        return {(j["suite"], j["run"]) for j in jobs if j["state"] == "failed" and "SIGKILL" in str(j.get("reason"))}


def one_round(
    yard: Yard, wanted: int, seconds: dict[tuple[str, str], float], with_snakemake: bool, rng: random.Random, tally: Tally
) -> None:
    """One call of snakemake in which each trainer is killed once, `wanted` of them at most."""
    process, trainers = yard.call(), {}  # type: subprocess.Popen, dict[tuple[str, str], Trainer]
    begun = looked = time.monotonic()
    last = rng.randrange(3, max(4, min(wanted, len(yard.runs)))) if with_snakemake else None
    while process.poll() is None:
        now = time.monotonic()
        if now - begun > MOST_SECONDS:
            process.kill()
            tally.faults.append(f"a call of snakemake did not end in {MOST_SECONDS} s")
        if now - looked > 0.05:
            looked = now
            for place, pid in yard.trainers().items():
                if place not in trainers and len(trainers) < wanted:
                    at_save = rng.random() < 0.5
                    until = now + (60 if at_save else rng.uniform(0, 1.3 * seconds[place]))
                    trainers[place] = Trainer(pid, rng.randint(1, 8) if at_save else 0, until)
        for place, trainer in trainers.items():
            if trainer.killed:
                continue
            trainer.seen |= (half := yard.half_written(place))
            if (trainer.saves and half and len(trainer.seen) >= trainer.saves) or now > trainer.until:
                with suppress(ProcessLookupError):  # it ended first
                    os.kill(trainer.pid, signal.SIGKILL)
                trainer.killed, trainer.mid_save = True, bool(yard.half_written(place))
        if last is not None and sum(t.killed for t in trainers.values()) >= last:
            process.kill()
            tally.snakemakes += 1
            break
        time.sleep(0.0005)
    process.wait()
    tally.calls += 1
    if last is None:
        landed = yard.ended_by_kill()
    else:  # nobody is left who waited for them: what counts is that they were running, and are gone without a result
        landed = {p for p, t in trainers.items() if t.killed and not Path(f"/proc/{t.pid}").exists() and not _done(yard, p)}
        _wait_for_orphans(yard, tally)
    for place in landed & {p for p, t in trainers.items() if t.killed}:
        tally.kills[yard.runs[place]] += 1
        tally.mid_save[yard.runs[place]] += trainers[place].mid_save


def _done(yard: Yard, place: tuple[str, str]) -> bool:
    return (yard.folder / "results" / place[0] / "runs" / place[1] / "train.json").exists()


def _wait_for_orphans(yard: Yard, tally: Tally) -> None:
    """After a killed snakemake its trainers have to save and leave by themselves."""
    until = time.monotonic() + LEAVING
    while (left := yard.trainers()) and time.monotonic() < until:
        time.sleep(0.1)
    if left:
        tally.faults.append(f"trainers outlived their snakemake by {LEAVING} s: {left}")
        for pid in left.values():
            os.kill(pid, signal.SIGKILL)


def kill_architectures(kills: int, seed: int) -> int:
    """Print what happened; 0 when every architecture came out the same, else 1."""
    runs, rng, tally = chosen_runs(), random.Random(seed), Tally()
    began = time.monotonic()
    with TemporaryDirectory() as text:
        root = Path(text).resolve()
        whole, yard = Yard(root / "whole", runs), Yard(root / "killed", runs)
        if whole.call().wait(MOST_SECONDS):
            print((whole.folder / "calls.log").read_text()[-3000:])
            raise RuntimeError("the undisturbed training failed")
        seconds = {p: json.loads((whole.folder / "results" / p[0] / "runs" / p[1] / "train.json").read_text()) for p in runs}
        times = {p: float(info["train_info"]["seconds"]) + 3 for p, info in seconds.items()}  # and what a start takes

        def compare(place: tuple[str, str]) -> None:
            tally.ends += 1
            if yard.results(place) != whole.results(place):
                tally.faults.append(f"{runs[place]}: the result is another one")

        shutil.copytree(whole.folder, yard.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs", "checkpoints"))
        while (missing := kills - tally.kills.total()) > 0 and len(tally.faults) < 5 and tally.calls < 5 + 3 * kills // len(runs):
            one_round(yard, missing, times, tally.calls % 3 == 1 and missing > 5, rng, tally)
            for place in runs:  # one that came to its end begins anew
                if _done(yard, place):
                    compare(place)
                    shutil.rmtree(yard.folder / "results" / place[0] / "runs" / place[1])
                    shutil.rmtree(yard.folder / "checkpoints" / place[0] / place[1])
            print(
                f"\r{tally.kills.total()} kills, {tally.calls} calls, {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True
            )
        if yard.call().wait(MOST_SECONDS):
            tally.faults.append(f"the last call failed: {(yard.folder / 'calls.log').read_text()[-500:]}")
        for place in runs:
            compare(place)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    print(f"{tally.kills.total()} kills landed on {len(tally.kills)} architectures in {tally.calls} calls of snakemake;")
    print(f"{tally.mid_save.total()} in the middle of a save; snakemake itself killed {tally.snakemakes} times")
    for place, architecture in sorted(runs.items()):
        print(f"  {tally.kills[architecture]:3d} ({tally.mid_save[architecture]} mid-save)  {architecture:20s} {place[0]}/{place[1]}")
    tally.faults += [f"{a}: no kill landed" for a in runs.values() if not tally.kills[a]]
    if tally.kills.total() < kills:
        tally.faults.append(f"only {tally.kills.total()} of {kills} kills landed")
    for fault in tally.faults[:10]:
        print(f"FAULT: {fault}")
    if not tally.faults:
        print(f"all {len(runs)} architectures, {tally.ends} trainings: weights, history and predictions byte-equal to undisturbed ones")
    print(f"{time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, seed {seed}")
    return 1 if tally.faults else 0
