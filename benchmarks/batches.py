#!/usr/bin/env python
"""Batches of 16 samples, shuffled, from a pack: beside an array in memory, a .pt file a sample, HF datasets, and decoding anew.

  .bench/bin/python benchmarks/batches.py
A sample is the log-mel spectrogram of a clip of five seconds (431 frames of 64 bands), in float16 as the local copy packs it, for every
rival; and once more in float32, 110 KB, to compare. Everything is in the page cache. Every rival may use all cores. A batch from a pack
is what models are given: `gather`; one from memory is the same of an array. The last table is the trainer's own path: a model's
`collate` on a pack and on the same arrays in memory.
"""

import argparse
import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import torch
from bench import REPOSITORY, Goal, call, measure, report, scratch
from decode import RATE, SECONDS, recording

sys.path.insert(0, str(REPOSITORY / "workflow"))

from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.features import AudioFeatures
from trainyard.data.audio import clip_features
from trainyard.data.pack import Pack, PackWriter
from trainyard.data.views import open_view
from trainyard.host.resources import usable_cores
from trainyard.models.gather import gather

SAMPLES, FRAMES, MELS, BATCH = 1024, 431, 64, 16
PACKED = "float16"  # what a local copy of recordings holds
FEATURES = AudioFeatures(sample_rate=RATE, seconds=SECONDS, n_fft=2048, hop=512, mels=MELS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="default %(default)s")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(max(1, int(usable_cores())))
    with scratch() as folder:
        met = [batches(folder, rounds, PACKED), batches(folder, rounds, "float32"), trainer(folder, rounds)]
    return 0 if all(met) else 1


def batches(folder: Path, rounds: int, kind: str) -> bool:
    rng = np.random.default_rng(0)
    mels = rng.standard_normal((SAMPLES, FRAMES, MELS)).astype(kind)
    pack = write(folder / f"mel-{kind}.safetensors", mels)
    for i, mel in enumerate(mels):
        torch.save(torch.from_numpy(mel).clone(), folder / f"{i}.pt")
    order = rng.permutation(SAMPLES).reshape(-1, BATCH)
    lists = order.tolist()
    often = np.tile(order, (16, 1))  # copies are so short that a busy moment of the machine is longer than all of them
    recordings = [recording(np.random.default_rng(i)) for i in range(BATCH)]

    def each(function, batches=order):
        def run() -> None:
            for rows in batches:
                function(rows)

        return call(run)

    def ours(rows) -> None:
        torch.from_numpy(np.stack([clip_features(recordings[i % BATCH], FEATURES, False)[0] for i in rows]))

    few = SAMPLES // BATCH // 16  # decoding anew: a part of the batches, its time scaled
    cases = {
        "RAM": scaled(each(lambda rows: gather(mels, rows), often), 1 / 16),
        "RAM, one thread": scaled(each(lambda rows: torch.from_numpy(mels[rows]), often), 1 / 16),
        "pack": scaled(each(lambda rows: gather(pack.fixed("mel"), rows), often), 1 / 16),
        ".pt a sample": each(lambda rows: torch.stack([torch.load(folder / f"{i}.pt", weights_only=True) for i in rows]), lists),
        "our decode and mel": scaled(each(ours, order[:few]), len(order) / few),
    }
    goals = [
        Goal("pack", at_most=1.25, than="RAM"),
        Goal("pack", at_least=30, than=".pt a sample"),
    ]
    if importlib.util.find_spec("librosa"):
        cases["soundfile and librosa mel"] = scaled(
            each(lambda rows: librosa_mels([recordings[i % BATCH] for i in rows]), order[:few]), len(order) / few
        )
        goals.append(Goal("pack", at_least=1000, than="soundfile and librosa mel"))
    if importlib.util.find_spec("datasets"):
        stored = hugging_face(folder / f"hf-{kind}", mels)
        cases["HF datasets"] = each(lambda rows: stored[rows]["mel"], lists)
        goals.append(Goal("pack", at_least=15, than="HF datasets"))
    else:
        print("peers are not installed and left out; `make benchmarks` installs them", file=sys.stderr)
    for run in cases.values():
        run()  # pages, imports
    title = f"{len(order)} shuffled batches of {BATCH} × {mels[0].nbytes / 1000:.0f} KB, {kind} (≥ 0.8 × RAM is ≤ 1.25 × its time)"
    return report(title, measure(cases, rounds), "RAM", goals if kind == PACKED else [])


def librosa_mels(recordings: list[bytes]):
    """What a loader does that reads the files themselves."""
    import librosa
    import soundfile

    sounds = [soundfile.read(io.BytesIO(data), dtype="float32")[0] for data in recordings]
    return torch.from_numpy(
        np.stack([np.log(librosa.feature.melspectrogram(y=x, sr=RATE, n_fft=2048, hop_length=512, n_mels=MELS) + 1e-6) for x in sounds])
    )


def scaled(run, factor: float):
    """A case that is run in part, or several times."""

    def whole():
        part = run()
        return type(part)(part.seconds * factor)

    return whole


def write(path: Path, mels: np.ndarray, **fields: np.ndarray) -> Pack:
    with PackWriter(path, {"format": "audio", "classes": ["calm", "angry"], "frames": mels.shape[1], "mels": mels.shape[2]}) as writer:
        for i, mel in enumerate(mels):
            writer.add({"mel": mel, **{name: values[i] for name, values in fields.items()}}, {"id": f"{i}"})
    return Pack(path)


def hugging_face(folder: Path, mels: np.ndarray):
    """The same samples as HF datasets stores and hands them out."""
    import datasets

    datasets.disable_progress_bars()
    columns = datasets.Features({"mel": datasets.Array2D(mels.shape[1:], str(mels.dtype))})
    datasets.Dataset.from_dict({"mel": list(mels)}, features=columns).save_to_disk(folder)
    return datasets.load_from_disk(folder).with_format("torch")


class InMemory:
    """A pack's fields as arrays in memory."""

    def __init__(self, pack: Pack):
        self.path, self.meta = pack.path, pack.meta
        self._arrays = {name: np.array(pack.fixed(name)) for name in pack.names() if name != "id"}

    def fixed(self, name: str) -> np.ndarray:
        return self._arrays[name]


def trainer(folder: Path, rounds: int) -> bool:
    """What the training loop calls: collate of the dynamics engine, which is given mel, loudness and frames."""
    from trainyard.models.registry import architecture

    rng = np.random.default_rng(1)
    mels = rng.standard_normal((SAMPLES, 126, MELS)).astype(np.float16)
    loudness = rng.uniform(-60, 0, (SAMPLES, 126)).astype(np.float32)
    write(folder / "train.safetensors", mels, loudness=loudness, frames=np.full(SAMPLES, 126, np.int32), label=np.zeros(SAMPLES, np.int64))
    view = open_view(folder / "train.safetensors", "train")
    model = architecture("dynamics_engine").from_pack(ARCHITECTURES["dynamics_engine"].options(), view.pack, view.rows, {})
    items = model.items(view.pack, view.rows)
    order = rng.permutation(len(items)).reshape(-1, BATCH)

    def each(pack):
        def run() -> None:
            for rows in order:
                model.collate(pack, items[rows], None)

        return call(run)

    cases = {"collate from RAM": each(InMemory(view.pack)), "collate from the pack": each(view.pack)}
    for run in cases.values():
        run()
    return report(
        f"the trainer's path: {len(order)} batches of {BATCH} × 16 KB through dynamics_engine.collate", measure(cases, rounds),
        "collate from RAM", [Goal("collate from the pack", at_most=1.25, than="collate from RAM")],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
