"""Every kind of root from index to packs, what the summary says of it, and a disk that is full while packs are written."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import fuse_mount
import numpy as np
import odd_midi
import pytest
import trainyard.data.copy_folder as copy_folder
from copy_runs import prepare, refusals
from odd_inputs import tone
from trainyard.data.copy import Limits, LocalCopy
from trainyard.data.errors import DataError
from trainyard.data.index_file import open_index
from trainyard.data.views import open_pack
from trainyard.data.workers import DecodePool, Task

AUDIO = {"format": "audio", "features": {"sample_rate": 8000, "seconds": 1.0, "n_fft": 512, "hop": 128, "mels": 16}}
VIDEO = {"format": "video", "features": {"cameras": 1, "frames": 2, "size": 16}}


def song(i: int) -> bytes:
    return odd_midi.midi(b"".join(odd_midi.note(40 + i + k) for k in range(8)))


def clip(i: int) -> bytes:
    file, rng = io.BytesIO(), np.random.default_rng(i)
    np.savez(file, video=rng.integers(0, 256, (1, 2, 3, 16, 16), dtype=np.uint8), positions=rng.normal(size=(3, 3)).astype(np.float32))
    return file.getvalue()


def chat(i: int) -> bytes:
    return json.dumps({"prompt": f"question {i}", "answer": "yes"}, indent=1 if i % 2 else None).encode()


def each(ending: str, make: Callable[[int], bytes], count: int = 12) -> dict[str, bytes]:
    """A tree two folders deep."""
    return {f"part{i % 3}/of {i % 2}/{i:02d}{ending}": make(i) for i in range(count)}


def sound(kind: str) -> Callable[[int], bytes]:
    return lambda i: tone(300 + 50 * i, None, kind=kind)


ROWS = b"".join(json.dumps({"prompt": f"question {i}", "answer": "yes"}).encode() + b"\n" for i in range(12))
TABLE = "who,age,ill\n" + "".join(f"p{i},{20 + i * 7 % 12},{i % 2}\n" for i in range(12))
KINDS: dict[str, tuple[dict, dict[str, bytes], list[str]]] = {  # settings, files, and samples where they are not the files
    "WAV": (AUDIO, each(".wav", sound("WAV")), []),
    "FLAC": (AUDIO, each(".flac", sound("FLAC")), []),
    "OGG": (AUDIO, each(".ogg", sound("OGG")), []),
    "MP3": (AUDIO, each(".MP3", sound("MP3")), []),
    "MIDI": ({"format": "midi"}, each(".mid", song), []),
    "NPZ": (VIDEO, each(".npz", clip), []),
    "JSONL": ({"format": "chat"}, {"x.jsonl": ROWS}, [f"x.jsonl#{i}" for i in range(12)]),
    "a folder of JSON files": ({"format": "chat"}, each(".json", chat), [f"{name}#0" for name in each(".json", chat)]),
    "CSV": ({"format": "tabular", "label": {"column": "ill"}}, {"t.csv": TABLE.encode()}, [f"t.csv#{i}" for i in range(12)]),
}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def run(root: Path, keys: dict, place: dict[str, str] | None = None, out: Path | None = None) -> tuple[Path, dict]:
    keys, out = {"suite": "s", "dataset": "d", "validation": 0.3, "test": 0.3, **keys}, out or root.parent / "packs"
    index, splits = prepare(root, keys, place)
    return out, LocalCopy(root, index, splits, keys, Limits()).run(out, str(out / "quarantine.csv"), str(out / "summary.json"))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_root_is_listed_and_packed(tmp_path: Path, name: str) -> None:
    keys, files, samples = KINDS[name]
    samples = sorted(samples or files)
    out, summary = run(write(tmp_path / "root", files), keys)
    index, _ = open_index(tmp_path / "index.parquet")
    assert sorted(index["id"]) == samples and set(index["refused"]) == {None}
    packs = [open_pack(path) for path in out.iterdir() if path.name.startswith(("train", "validation", "test"))]
    assert sorted(id for pack in packs for id in pack.texts("id")) == samples and refusals(out) == {}
    size = sum(map(len, files.values()))
    assert summary["samples"] == 12 and summary["bytes_read"] == {"CSV": 0, "JSONL": size - 12}.get(name, size)  # a row has no newline


def test_the_summary_says_hours_balance_duplicates_and_refusals(tmp_path: Path) -> None:
    files = {f"{'joy' if i % 4 else 'calm'}_{i:02d}.wav": tone(300 + 20 * i) for i in range(16)}
    files |= {"joy_twin.wav": files["joy_01.wav"], "calm_silent.wav": tone(0), "joy_zero.wav": b""}
    place = {name: split for i, split in enumerate(("train", "validation", "test")) for name in sorted(files)[i::3]}
    place |= {"joy_01.wav": "train", "joy_twin.wav": "test", "calm_silent.wav": "train"}
    _, summary = run(write(tmp_path / "root", files), {**AUDIO, "label": {"pattern": "^([a-z]+)"}}, place)
    assert summary["samples"] == 16 and summary["refused"] == 2 and summary["duplicates"] == {"same_split": 0, "across_splits": 1}
    assert summary["reasons"] == {"same content as another": 1, "silent": 1, "empty file (0 bytes)": 1}
    assert summary["hours"] == pytest.approx(16 / 3600, rel=0.03) and summary["classes"] == 2
    for pack in summary["packs"].values():
        labels = pack["labels"]
        assert sum(labels.values()) == pack["samples"] == pack["groups"]
        assert pack["balance"] == round(min(labels.values()) / max(labels.values()), 4)
    assert sum(pack["labels"]["calm"] for pack in summary["packs"].values()) == 4


def test_a_disk_that_is_full_while_packs_are_written_is_said_and_nothing_half_written_stays(tmp_path: Path, monkeypatch) -> None:
    if why := fuse_mount.can_mount():
        pytest.skip(why)
    root = write(tmp_path / "root", {f"{i:03d}.wav": tone(300 + 10 * i) for i in range(120)})
    disk = tmp_path / "disk"
    disk.mkdir()
    assert fuse_mount.libc.mount(b"tmpfs", os.fsencode(disk), b"tmpfs", 0, b"size=256k") == 0
    try:
        with pytest.raises(
            DataError, match=r"disk/packs: the packs need about [\d.]+ [kM]B, \d+ kB are free: [\d.]+ [kM]B are missing; make room"
        ):
            run(root, AUDIO, out=disk / "packs")
        assert list((disk / "packs").iterdir()) == []
        monkeypatch.setattr(copy_folder, "free_bytes", lambda path: 1 << 40)  # what statvfs promises may still not be there
        with pytest.raises(DataError, match=r"disk/packs: the disk is full after \d+ kB; make room, or use subset_size"):
            run(root, AUDIO, out=disk / "packs")
        assert list((disk / "packs").iterdir()) == []
    finally:
        fuse_mount.unmount(disk)


def test_a_file_that_a_worker_has_no_memory_for_is_refused_with_that_reason(capfd) -> None:
    start = {"reader": "copy_readers:NumberReader", "format": "audio", "features": {}, "root": ".", "context": {}}
    start |= {"seconds": 20, "memory_mb": 256}
    with DecodePool(start, 1) as pool:
        answers = next(pool.map([[Task({}, [b"1"]), Task({}, [bytes(300 << 20)]), Task({}, [b"2"])]]))
    assert [a.refused for a in answers] == [None, "needs more memory to read than a worker may use", None]
    assert "Traceback" not in capfd.readouterr().err
