#!/usr/bin/env python
"""Six LoRA adapters trained on six shards of floor plans, merged by Trainyard and by others, asked the same held-out rows.

What a wrong merge costs is not a norm but an answer: a tiny Llama is pretrained on one builder's plans, six adapters learn another
builder's from disjoint shards, and base, shards and every merge are asked for plans of houses that no shard has seen. Everything is
done twice: with one initial A for all shards, as training with one seed gives, and with an A of its own for each. Greedy answers,
nothing constrains them. Whether the mean beats its shards is a question, answered with intervals paired over seeds.

  python benchmarks/merge_demo.py                     # three seeds of both, one after the other on one core
  python benchmarks/merge_demo.py --initial own --seeds 2
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
from bench import print_table, scratch, verdict
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from trainyard.config.architectures import LoraOptions
from trainyard.config.features import ChatFeatures
from trainyard.config.schema import Base
from trainyard.data.chat import ChatReader
from trainyard.data.chat_pack import ChatPack, ChatWriter
from trainyard.data.chat_tokens import ChatTokenizer
from trainyard.data.files import unit_hash
from trainyard.data.generate.plans import generate
from trainyard.data.views import View
from trainyard.lora.base_model import build_base_model
from trainyard.lora.load import load_base
from trainyard.lora.merge import merge_adapters
from trainyard.lora.model import LoraChat
from trainyard.lora.validate import Candidates
from trainyard.report.intervals import t_interval
from trainyard.train.checkpoint import CheckpointStore
from trainyard.train.device import set_up
from trainyard.train.loop import Trainer
from trainyard.train.progress import Heartbeat
from trainyard.train.stopping import StopFlag

SHARDS, RANK, CPU = 6, 8, torch.device("cpu")
JOB = {
    "suite": "demo", "run": "shard", "model": "demo", "epochs": 2, "batch_size": 4, "accumulate": 1, "lr": 5e-3, "weight_decay": 0.0,
    "warmup": 0.05, "schedule": "cosine", "clip": 1.0, "select": "best",
    "checkpoint": {"every_epochs": 0, "every_steps": 0, "every_minutes": 0, "keep": 1},
}  # fmt: skip
OPTIONS = LoraOptions(r=RANK, alpha=16)
EXACT, LIMIT = "Trainyard, exact", 0.5
INITIAL = {"one": "one initial A for all shards", "own": "an initial A of its own for each shard"}
SHOWN = ("valid_json", "schema", "geometry", "cost")


def write_rows(folder: Path, builder: str, rows: int, parts: dict[str, float]) -> dict[str, ChatPack]:
    """Packs of generated plans; whole houses go to one part, by hash."""
    generate(folder / "raw", 0, builder=builder, rows=rows)
    reader = ChatReader(ChatFeatures(), folder, {})
    lines = (folder / "raw" / "plans.jsonl").read_bytes().splitlines()
    edges = np.cumsum(list(parts.values()))
    made = {name: [] for name in parts}
    for i, line in enumerate(lines):
        house = json.loads(line)["house"]
        name = list(parts)[int(np.searchsorted(edges, unit_hash(house, "split"), "right"))]
        made[name].append({"id": f"{builder}-{i}", "group": house, **reader.read([line], {})[1]})
    for name, found in made.items():
        with ChatWriter(folder / f"{name}.jsonl") as writer:
            for row in found:
                writer.add({}, row)
    return {name: ChatPack(folder / f"{name}.jsonl") for name in parts}


def train(base: Path, view: View, held: View, folder: Path, seed: int, first: int) -> Path:
    """An adapter, trained by the workflow's own loop. `first`: the seed of its initial A."""
    set_up(CPU, 1, first)
    model = LoraChat.from_pack(OPTIONS, view.pack, view.rows, {"base_model": str(base)})
    store, beat = CheckpointStore(folder / "checkpoints", 1), Heartbeat(folder / "beat.json", suite="demo", run=folder.name)
    Trainer(model, view, held, {**JOB, "seed": seed}, CPU, store, beat, StopFlag(), lambda _: None).run()
    model.write(str(folder))
    shutil.rmtree(folder / "checkpoints")
    return folder


def mean_of_factors(folders: list[Path], output: Path) -> None:
    parts = [load_file(f / "adapter_model.safetensors") for f in folders]
    output.mkdir()
    save_file({name: np.mean([p[name] for p in parts], 0) for name in parts[0]}, output / "adapter_model.safetensors")
    shutil.copy(folders[0] / "adapter_config.json", output)


def merge_with_peft(base: Path, folders: list[Path], output: Path, how: str) -> None:
    model = PeftModel.from_pretrained(load_base(str(base)), str(folders[0]), adapter_name="a0")
    for i, folder in enumerate(folders[1:], 1):
        model.load_adapter(str(folder), f"a{i}")
    more = {"svd": {"svd_rank": RANK}, "ties": {"density": 0.5}}.get(how, {})
    model.add_weighted_adapter([f"a{i}" for i in range(len(folders))], [1 / len(folders)] * len(folders), "merged", how, **more)
    model.save_pretrained(str(output), selected_adapters=["merged"])
    for file in (output / "merged").iterdir():
        file.replace(output / file.name)


def merges(base: Path, folders: list[Path], place: Path) -> dict[str, Path]:
    merge_adapters(folders, place / "exact")
    merge_adapters(folders, place / "rank", rank=RANK)
    mean_of_factors(folders, place / "factors")
    for how in ("linear", "cat", "svd", "ties"):
        merge_with_peft(base, folders, place / how, how)
    return {
        EXACT: place / "exact", f"Trainyard, best rank {RANK}": place / "rank", "mean of the factors": place / "factors",
        "peft linear": place / "linear", "peft cat": place / "cat", f"peft svd, rank {RANK}": place / "svd", "peft ties": place / "ties",
    }  # fmt: skip


def ask(chat: Candidates, view: View, folder: Path | None, count: int) -> dict[str, float]:
    chat.put_on(folder)
    answers = chat.answer(view, count)
    return {"loss": answers.loss, **answers.shares}


def show(title: str, seeds: list[dict[str, dict[str, float]]]) -> None:
    """A row a candidate: the mean over seeds, and the least and the most of the loss."""
    rows = []
    for name in seeds[0]:
        losses = [found[name]["loss"] for found in seeds]
        share = [f"{100 * statistics.mean(found[name][part] for found in seeds):.0f}" for part in SHOWN]
        rows.append([name, f"{statistics.mean(losses):.3f}", f"{min(losses):.3f}–{max(losses):.3f}", *share])
    print(f"\n{title}; {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
    print_table(["", "answer loss", "least–most", *(f"{p.replace('_', ' ')} %" for p in SHOWN)], rows)
    exact, base = [found[EXACT]["loss"] for found in seeds], [found["base"]["loss"] for found in seeds]
    good = all(e < min(b, LIMIT) for e, b in zip(exact, base))
    verdict(f"the exact mean is below the base and below {LIMIT} in every seed", f"{max(exact):.3f}, base {min(base):.3f}", good)
    for name in ("peft linear", "mean of the factors"):
        worse = [found[name]["loss"] / found[EXACT]["loss"] for found in seeds]
        print(f"  {name}: {min(worse):.2f} to {max(worse):.2f} × the exact mean's loss")
    shards = [[row["loss"] for name, row in found.items() if name.startswith("shard")] for found in seeds]
    for what, other in (("mean of the shards", statistics.mean), ("best shard (known only afterwards)", min)):
        gaps = [other(losses) - e for losses, e in zip(shards, exact)]
        span = t_interval(gaps)
        words = "one seed has no interval"
        if span:
            found = "no sure difference" if span[0] <= 0 <= span[1] else "surely better" if span[0] > 0 else "surely worse"
            words = f"95 % interval {span[0]:+.4f} to {span[1]:+.4f}, paired over seeds: {found}"
        print(f"  the exact mean against the {what}: loss lower by {statistics.mean(gaps):+.4f}; {words}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="repeats of all six trainings (3)")
    parser.add_argument("--initial", choices=tuple(INITIAL), help="one initial A for all shards, or their own (default: both in turn)")
    parser.add_argument("--rows", type=int, default=600, help="training rows a shard (600)")
    parser.add_argument("--steps", type=int, default=1200, help="steps of the base's pretraining (1200)")
    parser.add_argument("--answers", type=int, default=64, help="held-out prompts answered in full (64)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with scratch() as place:
        start = time.monotonic()
        first = write_rows(place / "base_rows", "base", 8 * args.steps, {"train": 0.98, "validation": 0.02})
        second = write_rows(place / "rows", "firm2", int(SHARDS * args.rows / 0.85), {"train": 0.88, "validation": 0.06, "test": 0.06})
        base, settings = place / "base", Base(steps=args.steps, batch_size=8, lr=3e-3)
        report = build_base_model(settings, first["train"].path, first["validation"].path, base)
        print(f"base: {report['parameters']:,} parameters, answer loss {report['validation_loss']:.3f} on its own builder's plans")
        pack, held, test = second["train"], *(View(second[s], np.arange(len(second[s]))) for s in ("validation", "test"))
        deal = np.random.default_rng(0).permutation(len(pack))
        chat = Candidates(LoraChat(load_base(str(base)), ChatTokenizer(str(base)), str(base), OPTIONS), CPU)
        for title, own in ((INITIAL[name], name == "own") for name in ([args.initial] if args.initial else INITIAL)):
            seeds = []
            for seed in range(args.seeds):
                at = place / f"{'own' if own else 'one'}{seed}"
                folders = []
                for k in range(SHARDS):
                    view = View(pack, np.sort(deal[k::SHARDS]))
                    folders.append(train(base, view, held, at / f"shard{k + 1}", seed, 1000 + seed * SHARDS + k if own else seed))
                    print(f"\r{title}: seed {seed + 1} of {args.seeds}, shard {k + 1}", end="", file=sys.stderr, flush=True)
                asked = {"base": None, **{f.name.replace("d", "d "): f for f in folders}, **merges(base, folders, at)}
                seeds.append({name: ask(chat, test, folder, args.answers) for name, folder in asked.items()})
            print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)
            show(title, seeds)
        rows, houses = len(test), len(set(test.pack.texts("group")))
        print(f"\nheld out: {rows} rows of {houses} houses, {args.answers} answered in full; {time.monotonic() - start:.0f} s, "
              f"{time.process_time():.0f} s of processor time")  # fmt: skip


if __name__ == "__main__":
    main()
