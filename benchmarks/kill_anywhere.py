#!/usr/bin/env python
"""Kill a training with SIGKILL again and again, and see whether what comes out is what an undisturbed training gives, to the byte.

    python benchmarks/kill_anywhere.py --kills 3100       # a tiny model, thousands of lives: about eight minutes on one core
    python benchmarks/kill_anywhere.py --kills 100 --prove  # and break harness and checkpoints on purpose: each must be found
    python benchmarks/kill_anywhere.py --architectures    # every architecture, 100 kills through snakemake (kill_architectures.py)

A life is a process of its own, forked from one that has imported everything, which runs the production code: train_run, its lock,
its fsyncs. It tells through a pipe when a save begins and ends. Half of the kills wait for a save and strike within the time that
one takes; the others strike at any time. A kill counts when the kernel says that the process died of SIGKILL and the training had
not ended. Some of the newest checkpoints are then damaged as a power loss would. The next life goes on; when a training ends, its
weights, history and predictions are compared with those of one that nobody killed, and every step's items with a permutation.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # a process with threads cannot be forked safely
sys.path[:0] = [str(Path(__file__).parents[1] / "workflow"), str(Path(__file__).parent)]

RESULTS = ("model.safetensors", "history.csv", "predictions.parquet")
SABOTAGES = ("no-kill", "optimizer", "order", "torn")
DAMAGED = 0.06  # chance after a kill that the newest checkpoint is damaged too, once a training
SEEDS = 3
MISSES = 12
JOB = {
    "suite": "kill", "run": "tiny", "model": "tiny", "architecture": "tabular_mlp", "format": "tabular", "features": {}, "seed": 0,
    "fold": 0, "shard": 0, "epochs": 6, "batch_size": 8, "accumulate": 1, "lr": 3e-3, "weight_decay": 0.05, "warmup": 0.1,
    "schedule": "cosine", "clip": 1.0, "select": "best", "options": {"width": 16, "layers": 2, "dropout": 0.2},
    "checkpoint": {"every_epochs": 1, "every_steps": 4, "every_minutes": 0, "keep": 2},
}  # fmt: skip


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


def make_packs(folder: Path) -> dict[str, str]:
    """A table of patients as train, validation and test packs."""
    from trainyard.config.features import TabularFeatures
    from trainyard.data.generate.patients import generate
    from trainyard.data.pack import PackWriter
    from trainyard.data.tabular import TabularReader, table_context, table_rows

    generate(folder, 0, disease="als", patients=90)
    table = folder / "patients.csv"
    context = json.loads(json.dumps(table_context(table, {"label": {"column": "diagnosis"}, "group": {"column": "patient_id"}})))
    reader, rows = TabularReader(TabularFeatures(), folder, context), list(table_rows(table))[:150]
    classes = sorted({r["diagnosis"] for r in rows})
    packs = {}
    for i, split in enumerate(("validation", "test", "train")):
        packs[split] = str(folder / f"{split}.safetensors")
        with PackWriter(packs[split], {"format": "tabular", "classes": classes, **reader.meta()}) as writer:
            for n, row in enumerate(rows):
                if min(n % 5, 2) == i:
                    fixed, ragged = reader.read([], {"extra": row})
                    writer.add({**fixed, "label": classes.index(row["diagnosis"])}, {**ragged, "id": f"p{n}", "group": row["patient_id"]})
    return packs


def live(packs: dict[str, str], folder: Path, seed: int, phases: int, sabotage: str) -> None:
    """One life, in a process of its own: train to the end, telling of saves through `phases` and of items in a file."""
    from trainyard.train import job as job_module
    from trainyard.train.checkpoint import CheckpointStore
    from trainyard.train.loop import Trainer
    from trainyard.train.stopping import StopFlag

    save, step = CheckpointStore.save, Trainer._step
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    seen = os.open(folder / "items", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def telling_save(self, *args):
        os.write(phases, b"s")
        save(self, *args)
        os.write(phases, b"e")

    def telling_step(self, indices):
        os.write(seen, f"{self.state.epoch} {self.state.step} {','.join(map(str, indices))}\n".encode())
        return step(self, indices)

    CheckpointStore.save, Trainer._step = telling_save, telling_step  # type: ignore[method-assign]
    if sabotage not in ("", "no-kill"):
        break_checkpoints(sabotage)
    job_module.train_run(
        {**JOB, "seed": seed}, packs, str(folder / "checkpoints"), str(folder / "out"), paths={}, code="kill", device="cpu", threads=1,
        stop=StopFlag(), say=lambda line: os.write(log, f"{line}\n".encode()),
    )  # fmt: skip
    os.write(phases, b"F")


def break_checkpoints(sabotage: str) -> None:
    """Break on purpose what resuming rests on, each the way other programs have it broken."""
    from trainyard.train import checkpoint
    from trainyard.train.loop import Trainer
    from trainyard.train.optimizer import AdamW

    if sabotage == "optimizer":  # weights come back, the optimiser's moments do not
        AdamW.load_tensors = lambda self, tensors: None  # type: ignore[method-assign]
    elif sabotage == "order":  # the epoch begins again after a resume
        resume = Trainer._resume

        def forgetful(self):
            resume(self)
            self.state.at = 0

        Trainer._resume = forgetful  # type: ignore[method-assign]
    elif sabotage == "torn":  # one file, filled in place, no checksum
        write, enter = checkpoint.CheckpointStore._write, checkpoint.CheckpointStore._enter

        def in_place(self, name, snapshot):
            digest = write(self, name, snapshot)
            if name.startswith("step"):
                path = self.folder / name
                data = path.read_bytes()
                begun = 8 + int.from_bytes(data[:8], "little")
                path.write_bytes(data[:begun] + bytes(len(data) - begun))
                enter(self, [{"file": name, "step": int(name[5:14]), "sha256": digest, "best": None}])
                with open(path, "r+b") as file:
                    file.seek(begun)
                    for i in range(begun, len(data), 256):
                        file.write(data[i : i + 256])
                        file.flush()
            return digest

        checkpoint.CheckpointStore._write = in_place  # type: ignore[method-assign]
        checkpoint.sha256_file = lambda path: next(  # type: ignore[assignment]
            e["sha256"] for e in checkpoint.read_json(Path(path).parent / "manifest.json") if e["file"] == Path(path).name
        )


def start(packs: dict[str, str], folder: Path, seed: int, sabotage: str) -> tuple[int, int]:
    """Fork a life; its pid and the reading end of its pipe."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            live(packs, folder, seed, writing, sabotage)
            code = 0
        except BaseException as error:
            with open(folder / "log", "a") as file:
                print(f"died: {type(error).__name__}: {error}", file=file)
        finally:
            os._exit(code)
    os.close(writing)
    return pid, reading


def hear(pipe: int, until: float, heard: bytearray, saves: int | None = None) -> bool:
    """Listen until a time, or until `saves` saves have begun; False when the life is over."""
    while (left := until - time.monotonic()) > 0 and (saves is None or heard.count(b"s") < saves):
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


def fingerprint(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / "out" / name).read_bytes()).hexdigest() for name in RESULTS}


def items_fault(folder: Path) -> str | None:
    """Whether some step was trained on other items in two lives, or an epoch on an item twice or never."""
    steps: dict[int, tuple[int, str]] = {}
    for line in (folder / "items").read_text().splitlines():
        epoch, step, items = line.split(" ")
        if steps.setdefault(int(step), (int(epoch), items)) != (int(epoch), items):
            return f"step {step} had other items in another life"
    epochs: dict[int, list[int]] = defaultdict(list)
    for epoch, items in steps.values():
        epochs[epoch] += map(int, items.split(","))
    whole = sorted(epochs[0])
    bad = [e for e, items in epochs.items() if sorted(items) != list(range(len(whole)))]
    return f"epochs {bad} did not see every item once" if bad or len(epochs) != JOB["epochs"] else None


def undisturbed(packs: dict[str, str], folder: Path, seed: int) -> tuple[dict[str, str], float, float]:
    """What an uninterrupted training gives, the seconds it takes and those of a save."""
    folder.mkdir()
    began = time.monotonic()
    pid, pipe = start(packs, folder, seed, "")
    times: list[float] = []
    while data := os.read(pipe, 1):
        times.append(time.monotonic() if data != b"F" else 0)
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
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and b"F" not in heard:
            landed += 1
            tally.kills += 1
            if heard.count(b"s") > heard.count(b"e"):
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
    import torch
    import trainyard.data.generate.patients
    import trainyard.models.tabular_mlp
    import trainyard.train.job  # noqa: F401 - imported before any fork

    torch.set_num_threads(1)
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
