"""One run from packs to files: build, train or resume, predict, write."""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainyard.command import by_name
from trainyard.config.jobs import typed_options
from trainyard.data.files import replacing, write_json
from trainyard.data.predictions import PredictionTable
from trainyard.data.views import View
from trainyard.models.base import TrainyardModel
from trainyard.models.registry import architecture
from trainyard.train.checkpoint import CheckpointStore
from trainyard.train.device import choose_device, set_up
from trainyard.train.loop import Trainer, batches_of
from trainyard.train.memory import hold_to
from trainyard.train.progress import Heartbeat, peak_memory_mb, tell_nobody
from trainyard.train.promotion import Promoted
from trainyard.train.run_info import run_info, utc_now
from trainyard.train.splits import open_splits
from trainyard.train.stopping import StopFlag, Stopped
from trainyard.train.tensorboard import EventFile

SAMPLED = 256 << 20
BASE_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt")  # weights, settings, chat template, vocabulary of older tokenizers
LEAVING = 60.0  # seconds that a training which is just saving and leaving is waited for
HISTORY = ("epoch", "step", "lr", "train_loss", "validation_loss")


def train_run(job: dict[str, Any], packs: Mapping[str, str], checkpoints: str, output: str, *, paths: Mapping[str, str],
              code: str, device: str, threads: int, stop: StopFlag, preflight: str | None = None, memory_mb: int = 0, events: bool = False,
              promoted: Promoted | None = None, elsewhere: Any = None, say=print) -> None:  # fmt: skip
    """Train one run and write model, history.csv, predictions.parquet and train.json into `output`.

    `packs` names the files of train, validation and test; `preflight` the report of its checks, if there is one. On a CPU,
    `memory_mb` above 0 is what the run may take. `events` writes events for TensorBoard below the checkpoints. `promoted`: the run
    is a slot, and `job` its long training. `elsewhere` keeps the
    checkpoints besides (trainyard.machines.mirror). Raises ValueError when preflight or this machine forbids the run, Stopped when asked to
    stop, after saving.
    """
    started = utc_now()
    _check_output(Path(output).absolute())
    place = choose_device(device)
    set_up(place, threads, job["seed"])
    views = open_splits(job, {split: packs[split] for split in ("train", "validation", "test")})
    for split, view in views.items():
        if len(view) == 0:
            raise ValueError(f"the {split} split of {packs[split]} is empty: more groups or other shares are needed")
    fingerprint = run_fingerprint(job, packs, paths, code)
    name, folder = (promoted.slot, promoted.folder(checkpoints)) if promoted else (job["run"], Path(checkpoints))
    store = CheckpointStore(folder / fingerprint, job["checkpoint"]["keep"])
    store.lock(LEAVING, stop.requested)
    if elsewhere:
        elsewhere.take_up(store.folder)
    if preflight:
        by_name("trainyard.train.gate").pass_gate(preflight, packs, store.folder, place, say)
    if memory_mb and place.type == "cpu":
        import pyarrow.parquet  # noqa: F401 - wanted at the end, when there may be no room left to map its libraries

        if hold_to(memory_mb) is None:
            say(f"this system enforces no cap: the {memory_mb} MB of cap_memory are not held to")
    model = architecture(job["architecture"]).from_pack(typed_options(job), views["train"].pack, views["train"].rows, paths)
    for split in ("validation", "test"):
        if not len(model.items(views[split].pack, views[split].rows)):
            raise ValueError(f"the {split} split of {packs[split]} holds nothing to predict: no label, or samples shorter than a window")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    say(f"{job['suite']}/{name}: {len(views['train'])} samples, {trained} trainable parameters, on {place}, {threads} threads")
    heartbeat = Heartbeat(Path(checkpoints) / "progress.json", suite=job["suite"], run=name)
    tell = EventFile(Path(checkpoints) / "tensorboard").scalars if events else tell_nobody
    origin = None
    if promoted:
        say(f"{name} {promoted.words}")
        short = folder / run_fingerprint(promoted.short, packs, paths, code)
        if elsewhere:
            elsewhere.fetch(short)
        origin = _origin(promoted, short, say)
    trainer = Trainer(model, views["train"], views["validation"], job, place, store, heartbeat, stop, say, tell, origin)
    trainer.run()
    model.eval()
    held_out = {s: views[s] for s in ("validation", "test")}
    table = trainer.ladder.fit("evaluation", trainer.steps, lambda size: predict(model, held_out, place, size, stop))
    state = trainer.state
    info = {
        "run_info": run_info(str(place), torch.get_num_threads(), started),
        "train_info": {
            "epochs": job["epochs"], "best_epoch": state.best_epoch, "selected": job["select"], "steps": state.step,
            "seconds": round(state.seconds, 3), "samples": int(trainer.samples.sum()),
            "parameters": sum(p.numel() for p in model.parameters()), "trained_parameters": trained,
            "micro_batch": trainer.ladder.size("training", state.step), "memory_mb": round(peak_memory_mb()),
            "best_validation_loss": state.best_loss if state.best_epoch else None,
            "validation_loss": state.best_loss if job["select"] == "best" else state.history[-1]["validation_loss"],
        },
        "meta_info": {"fingerprint": fingerprint, "code": code, "settings": {**job, "run": name},
                      "report": _report_of(model) | ({"promoted": promoted.words} if promoted else {})},
    }  # fmt: skip
    try:
        _write_results(Path(output), model, table, state.history, info)
    except OSError as error:
        free = shutil.disk_usage(output).free / 1e6 if Path(output).is_dir() else 0
        raise OSError(
            f"{output}: the results cannot be written: {error.strerror or error} ({free:.0f} MB free); the training itself is saved to its "
            "end. Make room, and run again"
        ) from None


def _check_output(output: Path) -> None:
    """Raises OSError where results could not be written: not after hours, when they are there."""
    there = next(path for path in (output, *output.parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file is where the results' folder should be", str(there))
    if not os.access(there, os.W_OK):
        why = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(why, f"the results cannot be written there: {os.strerror(why)}", str(there))


def _write_results(
    output: Path, model: TrainyardModel, table: PredictionTable, history: list[dict[str, Any]], info: dict[str, Any]
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    table.write(output / "predictions.parquet")
    model.write(str(output))
    _write_history(history, output / "history.csv")
    weights = sum(f.stat().st_size for f in output.glob("*.safetensors"))
    write_json(output / "train.json", {**info, "train_info": {**info["train_info"], "bytes": weights}})


def _origin(promoted: Promoted, folder: Path, say) -> CheckpointStore | None:
    """The checkpoints that the short training ended with, if they are still there: of the same settings, data and code."""
    if folder.is_dir():
        return CheckpointStore(folder, promoted.short["checkpoint"]["keep"])
    say(
        f"no checkpoint of {promoted.run} with this fingerprint ({folder} is not there): its first {promoted.short['epochs']} epochs are "
        "trained again, to the same bits"
    )
    return None


@torch.no_grad()
def predict(model: TrainyardModel, views: Mapping[str, View], device: torch.device, batch: int, stop: StopFlag) -> PredictionTable:
    """Predictions of a model in eval mode for every item of the views. Raises Stopped."""
    table = PredictionTable()
    for split, view in views.items():
        items = model.items(view.pack, view.rows)
        for part in batches_of(len(items), batch):
            tensors = {k: v.to(device) for k, v in model.collate(view.pack, items[part], None).items()}
            table.add(view.pack, items[part], split, model.predict(tensors))
            if stop.requested():
                raise Stopped(f"{stop.reason}; trained to the end and saved, run again for the predictions")
    return table


def run_fingerprint(job: dict[str, Any], packs: Mapping[str, str], paths: Mapping[str, str], code: str) -> str:
    """Names the checkpoint folder: settings that change what is learned, code, and the data's bytes."""
    settings = {k: v for k, v in job.items() if k != "checkpoint"}
    data = {split: _digest(path) for split, path in sorted(packs.items())}
    inputs = {name: _inputs_digest(path) for name, path in sorted(paths.items()) if name != "base_name"}  # a name teaches nothing
    text = json.dumps([settings, data, inputs, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _inputs_digest(path: str) -> str:
    """Of a folder of weights: names and bytes of what a base and its tokenizer are read from. Of a hub name: the name."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return str(path)
    return ",".join(f"{f.name}:{_digest(f)}" for f in sorted(folder.iterdir()) if f.suffix in BASE_FILES and f.is_file())


def _digest(path: str | Path) -> str:
    """xxh3 of a file; of a very large one, its size and 64 MiB spread over it, so that a start stays a start."""
    import xxhash

    digest, size = xxhash.xxh3_128(), Path(path).stat().st_size
    block, count = (1 << 20, 64) if size > SAMPLED else (1 << 22, None)
    with open(path, "rb") as file:
        if count is None:
            while data := file.read(block):
                digest.update(data)
        else:
            for i in range(count):
                file.seek((size - block) * i // (count - 1))
                digest.update(file.read(block))
    return f"{size}-{digest.hexdigest()}"


def _report_of(model: TrainyardModel) -> dict[str, Any]:
    """What a model wants said about itself (left-out samples, …)."""
    return dict(getattr(model, "notes", {}) or {})


def _write_history(rows: list[dict[str, Any]], path: Path) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY)
        writer.writeheader()
        writer.writerows(rows)
