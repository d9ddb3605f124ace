#!/usr/bin/env python
"""What the training loop costs over a bare PyTorch loop of the same model, and what checkpoints and the heartbeat cost.

  .venv/bin/python benchmarks/overhead.py
One model (dynamics_engine) in two sizes; the batch is chosen so that a step takes 2 and 20 ms here. The bare loop is what a person writes
first: shuffle, collate, forward, backward, clip, torch's AdamW, loss.item(), validation once an epoch; no schedule, no state, no
files. The loop is the production one with everything that makes it survive; with `no saves` its checkpoints are left out, so that
what they cost stands apart. Everything on one thread: compared is processor time, which other work on the machine disturbs least.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from bench import REPOSITORY, call, measure, print_table, scratch, verdict  # noqa: E402

sys.path.insert(0, str(REPOSITORY / "workflow"))

from trainyard.config.architectures import ARCHITECTURES  # noqa: E402
from trainyard.data.pack import PackWriter  # noqa: E402
from trainyard.data.views import View, open_view  # noqa: E402
from trainyard.models.base import TrainyardModel  # noqa: E402
from trainyard.models.layers import number_dropouts, sample_seeds  # noqa: E402
from trainyard.models.registry import architecture  # noqa: E402
from trainyard.train.checkpoint import CheckpointStore  # noqa: E402
from trainyard.train.loop import Trainer  # noqa: E402
from trainyard.train.progress import Heartbeat  # noqa: E402
from trainyard.train.stopping import StopFlag  # noqa: E402

FRAMES, MELS, HELD_OUT = 126, 64, 64
CPU = torch.device("cpu")
# step's name → milliseconds, width, layers, steps an epoch, epochs; the most it may cost over the bare loop
SIZES = {
    "2 ms": (2.0, 8, 1, 200, 4, 0.10),
    "20 ms": (20.0, 80, 5, 45, 2, 0.03),
}
MOST = 2048  # samples of the pack
SAVING, BEATING = 0.02, 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=1e9, help="of a size; the rounds done by then count")
    parser.add_argument("--size", choices=SIZES, action="append", help="only steps of this length (default: each)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with scratch() as folder:
        train, validation = pack(folder, "train", MOST), pack(folder, "validation", HELD_OUT)
        good = [compare(name, train, validation, folder, args.rounds, args.seconds) for name in args.size or SIZES]
        good.append(heartbeat(folder))
    return 0 if all(good) else 1


def pack(folder: Path, split: str, samples: int) -> View:
    """Random log-mel spectrograms of two seconds, and their loudness."""
    rng = np.random.default_rng(samples)
    path = folder / f"{split}.safetensors"
    with PackWriter(path, {"format": "audio", "classes": ["calm", "angry"], "frames": FRAMES, "mels": MELS}) as writer:
        for i in range(samples):
            mel = rng.standard_normal((FRAMES, MELS)).astype(np.float16)
            loudness = rng.uniform(-60, 0, FRAMES).astype(np.float32)
            writer.add(
                {"mel": mel, "loudness": loudness, "frames": np.int32(FRAMES), "label": np.int64(0)}, {"id": f"{i}", "group": f"{i}"}
            )
    return open_view(path, split)


def new_model(width: int, layers: int, train: View) -> TrainyardModel:
    torch.manual_seed(0)
    options = ARCHITECTURES["dynamics_engine"].options(width=width, layers=layers)
    return architecture("dynamics_engine").from_pack(options, train.pack, train.rows, {})


def settings(batch: int, epochs: int, every: int) -> dict:
    return {"seed": 0, "epochs": epochs, "batch_size": batch, "accumulate": 1, "lr": 1e-3, "weight_decay": 0.01, "warmup": 0.1,
            "schedule": "cosine", "clip": 1.0, "select": "best",
            "checkpoint": {"every_epochs": every, "every_steps": 0, "every_minutes": 0, "keep": 2}}  # fmt: skip


def bare(model: TrainyardModel, train: View, validation: View, job: dict) -> None:
    """The loop that a person writes first."""
    number_dropouts(model)
    items, rng = model.training_items(train.pack, train.rows), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=job["lr"], weight_decay=job["weight_decay"], fused=True)
    for _ in range(job["epochs"]):
        model.train()
        order, losses = rng.permutation(len(items)), []
        for start in range(0, len(items), job["batch_size"]):
            rows = order[start : start + job["batch_size"]]
            seeds = rng.integers(1 << 62, size=len(rows))
            batch = model.collate(train.pack, items[rows], seeds)
            optimizer.zero_grad()
            with sample_seeds(torch.from_numpy(seeds)):
                loss = model.losses(batch).sum() / batch["weight"].sum()
                loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), job["clip"])
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        total = weight = 0.0
        held_out = model.items(validation.pack, validation.rows)
        with torch.no_grad():
            for start in range(0, len(held_out), 2 * job["batch_size"]):
                batch = model.collate(validation.pack, held_out[start : start + 2 * job["batch_size"]], None)
                total += model.losses(batch).sum().item()
                weight += batch["weight"].sum().item()


def batch_for(wanted: float, width: int, layers: int, train: View, validation: View) -> int:
    """The batch size at which a step of the bare loop takes that many ms of processor time: from two sizes, as if on a line."""

    def step(batch: int) -> float:
        view, nobody, found = View(train.pack, train.rows[: 40 * batch]), View(validation.pack, validation.rows[:0]), []
        for _ in range(5):
            model, began = new_model(width, layers, view), time.process_time()
            bare(model, view, nobody, settings(batch, 1, 0))
            found.append(1000 * (time.process_time() - began) / 40)
        return min(found)

    few, many = 4, 24
    a, b = step(few), step(many)
    return max(1, min(MOST // 40, round(few + (wanted - a) * (many - few) / (b - a))))


class NoSaves(CheckpointStore):
    """A store that keeps nothing."""

    def save(self, step, snapshot, best):
        return self.folder


class Timed(CheckpointStore):
    """A store that counts the seconds it takes, waiting for the disk included."""

    spent = 0.0

    def save(self, step, snapshot, best):
        began = time.perf_counter()
        done = super().save(step, snapshot, best)
        self.spent += time.perf_counter() - began
        return done


def compare(name: str, train: View, validation: View, folder: Path, rounds: int, seconds: float) -> bool:
    wanted, width, layers, per_epoch, epochs, goal = SIZES[name]
    batch = batch_for(wanted, width, layers, train, validation)
    view, number, shares = View(train.pack, train.rows[: batch * per_epoch]), iter(range(10**6)), []
    steps = epochs * -(-len(view.rows) // batch)

    def loop(store: CheckpointStore, every: int) -> None:
        beat = Heartbeat(store.folder / "progress.json", suite="bench", run="bench")
        trainer = Trainer(new_model(width, layers, view), view, validation, settings(batch, epochs, every), CPU, store, beat, StopFlag(),
                          say=lambda _: None)  # fmt: skip
        trainer.run()

    def saving() -> None:
        began, store = time.perf_counter(), Timed(folder / f"{next(number)}")
        loop(store, 2)
        shares.append(store.spent / (time.perf_counter() - began))

    cases = {
        "bare loop": call(lambda: bare(new_model(width, layers, view), view, validation, settings(batch, epochs, 0))),
        "the loop, no saves": call(lambda: loop(NoSaves(folder / f"{next(number)}"), 0)),
        "the loop, saves every 2 epochs": call(saving),
    }
    for case in cases.values():
        case()  # imports, pages
    shares.clear()
    results = measure(cases, rounds, seconds=seconds)
    cpu = {case: statistics.median(r.cpu for r in runs) for case, runs in results.items()}
    over = [b.cpu / a.cpu - 1 for a, b in zip(results["bare loop"], results["the loop, no saves"])]
    step = 1000 * cpu["bare loop"] / steps
    print(f"\n{name} steps ({step:.1f} ms, {steps} of them, width {width}, batch {batch}); {len(over)} rounds, "
          f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")  # fmt: skip
    rows = []
    for case, runs in results.items():
        paired = [r.cpu / b.cpu for r, b in zip(runs, results["bare loop"])]
        wall = [r.seconds / b.seconds for r, b in zip(runs, results["bare loop"])]
        rows.append([case, f"{cpu[case]:.3g}", f"{1000 * cpu[case] / steps:.2f}", f"{statistics.median(paired):.3f}",
                     f"{min(paired):.3f}–{max(paired):.3f}", f"{statistics.median(wall):.3f}"])  # fmt: skip
    print_table(["case", "CPU s", "ms a step", "× bare", "least–most", "wall × bare"], rows)
    share = statistics.median(shares)
    met = verdict(f"saving every 2 epochs of {1000 * cpu['bare loop'] / epochs:.0f} ms takes ≤ {SAVING:.0%} of the time",
                  f"{share:.1%} ({min(shares):.1%}–{max(shares):.1%})", share <= SAVING)  # fmt: skip
    low = statistics.median(over)
    met &= verdict(f"the loop costs ≤ {goal:.0%} over the bare one", f"{low:+.1%}", low <= goal,
                       f"{sum(o <= goal for o in over)} of {len(over)} rounds")  # fmt: skip
    return met


def heartbeat(folder: Path) -> bool:
    """It is written once a second at most; what one costs is its share of that second."""
    beat = Heartbeat(folder / "progress.json", suite="bench", run="bench")
    seconds = []
    for step in range(300):
        began = time.process_time()
        beat.beat(step, 1000, 16, epoch=1, epochs=2, loss=0.5, validation_loss=0.6, last_checkpoint=0)
        seconds.append(time.process_time() - began)
    share = statistics.median(seconds) / Heartbeat.EVERY
    print()
    return verdict(f"the heartbeat takes < {BEATING:.0%} of the time", f"{share:.3%}", share < BEATING)


if __name__ == "__main__":
    sys.exit(main())
