"""A training of a tiny model that can be killed: one life of it is a process that is forked, and tells through a pipe how far it is.

A life runs the production code, train_run with its lock and its fsyncs, and writes down which items every step is trained on. On
request what resuming rests on is broken, so that whoever kills can show that this would be found.
"""

import hashlib
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # a process with threads cannot be forked safely
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))

RESULTS = ("model.safetensors", "history.csv", "predictions.parquet")
BEGINS, ENDS, FINISHED = b"s", b"e", b"F"  # what a life tells: a save begins, a save ends, the training has ended
SABOTAGES = ("no-kill", "optimizer", "order", "torn")
JOB = {
    "suite": "kill", "run": "tiny", "model": "tiny", "architecture": "tabular_mlp", "format": "tabular", "features": {}, "seed": 0,
    "fold": 0, "shard": 0, "epochs": 6, "batch_size": 8, "accumulate": 1, "lr": 3e-3, "weight_decay": 0.05, "warmup": 0.1,
    "schedule": "cosine", "clip": 1.0, "select": "best", "options": {"width": 16, "layers": 2, "dropout": 0.2},
    "checkpoint": {"every_epochs": 1, "every_steps": 4, "every_minutes": 0, "keep": 2},
}  # fmt: skip


def make_packs(folder: Path) -> dict[str, str]:
    """A table of patients as train, validation and test packs."""
    from trainyard.config.features import TabularFeatures
    from trainyard.data.generate.patients import generate
    from trainyard.data.pack import PackWriter
    from trainyard.data.table_file import table_rows
    from trainyard.data.tabular import TabularReader, table_context

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


def import_all() -> None:
    """Import what a life needs, before the first fork: each then starts within milliseconds."""
    import torch
    import trainyard.data.generate.patients
    import trainyard.models.tabular_mlp
    import trainyard.train.job  # noqa: F401

    torch.set_num_threads(1)


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
        os.write(phases, BEGINS)
        save(self, *args)
        os.write(phases, ENDS)

    def telling_step(self, indices):
        os.write(seen, f"{self.state.epoch} {self.state.step} {','.join(map(str, indices))}\n".encode())
        return step(self, indices)

    CheckpointStore.save, Trainer._step = telling_save, telling_step  # type: ignore[method-assign]
    break_checkpoints(sabotage)
    job_module.train_run(
        {**JOB, "seed": seed}, packs, str(folder / "checkpoints"), str(folder / "out"), paths={}, code="kill", device="cpu", threads=1,
        stop=StopFlag(), say=lambda line: os.write(log, f"{line}\n".encode()),
    )  # fmt: skip
    os.write(phases, FINISHED)


def fingerprint(folder: Path) -> dict[str, str]:
    """sha256 of what a training wrote, by name."""
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


def break_checkpoints(sabotage: str) -> None:
    """Break on purpose what resuming rests on, each the way other programs have it broken; "" and "no-kill" break nothing."""
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
