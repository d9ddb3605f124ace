"""For the tests of odd inputs, one by one: each goes through index, split and copy, and ends in the decision that docs/odd-inputs.md
writes down: a sample is packed, with what it holds, or refused, with what quarantine.csv says."""

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from copy_runs import prepare, refusals
from trainyard.data.audio import mel_matrix
from trainyard.data.copy import Limits, LocalCopy
from trainyard.data.names import to_text
from trainyard.data.pack import Pack
from trainyard.data.views import open_pack

RATE, FFT = 8000, 512
AUDIO = {"format": "audio", "features": {"sample_rate": RATE, "seconds": 1.0, "n_fft": FFT, "hop": 128, "mels": 40}}
ENDINGS = {"audio": ".wav", "midi": ".mid"}
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Outcome:
    """What became of a data set: the packs, the pack and row of each sample that was kept, and the reasons of the others."""

    kept: dict[str, tuple[Pack, int]]
    refused: dict[str, str]

    def decision(self, name: str | bytes, reason: str | None) -> None:
        """A sample is packed, or refused for this reason; never both, never neither."""
        text = to_text(os.fsdecode(name))
        assert (text in self.kept, text in self.refused) == (reason is None, reason is not None), self.refused.get(text, "not refused")
        if reason is not None:
            assert re.search(reason, self.refused[text]), self.refused[text]

    def fixed(self, name: str, field: str) -> np.ndarray:
        pack, row = self.kept[name]
        return np.asarray(pack.fixed(field)[row])


def outcome(out: Path) -> Outcome:
    packs = [open_pack(path) for path in sorted([*out.glob("*.safetensors"), *out.glob("*.jsonl")])]
    return Outcome({id: (pack, row) for pack in packs for row, id in enumerate(pack.texts("id"))}, refusals(out))  # type: ignore[misc]


def through(root: Path, keys: dict, between: Callable[[], object] = lambda: None) -> Outcome:
    """Index, split and copy; `between` index and copy the world may change. Three sound files see to it that no split is empty."""
    keys = {"suite": "s", "dataset": "d", "validation": 0.3, "test": 0.3, **keys}
    sound = {f"sound{i}{ENDINGS.get(keys['format'])}": split for i, split in enumerate(SPLITS)}
    index, splits = prepare(root, keys, sound)
    between()
    out = root.parent / "packs"
    LocalCopy(root, index, splits, keys, Limits()).run(out, str(out / "quarantine.csv"), str(out / "summary.json"))
    return outcome(out)


def root_of(folder: Path, files: dict[str, bytes]) -> Path:
    root = folder / "root"
    root.mkdir()
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


def tone(hz: float, subtype: str | None = "PCM_16", channels: int = 1, kind: str = "WAV") -> bytes:
    """A second of a tone, the same in every channel."""
    x = 0.3 * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)
    file = io.BytesIO()
    soundfile.write(file, np.stack([x] * channels, 1), RATE, format=kind, subtype=subtype)
    return file.getvalue()


def loudest(found: Outcome, name: str) -> float:
    """Hz of the loudest band of a packed recording."""
    band = found.fixed(to_text(name), "mel")[20].argmax()
    return float(mel_matrix(RATE, FFT, 40)[band].argmax() * RATE / FFT)
