"""A checkpoint that something else took the place of: refused by its reason, never run, and the one before it is gone on from."""

import json
import shutil

import numpy as np
import pytest
import torch
from test_hostile import HOSTILE
from test_loop import StopAfter, result, trainer
from trainyard.data.files import read_json, sha256_file, write_json
from trainyard.train.checkpoint import CheckpointStore, Snapshot
from trainyard.train.stopping import Stopped


def stopped(folder) -> tuple[list[dict], CheckpointStore]:
    """A training that was stopped with two checkpoints; its manifest."""
    with pytest.raises(Stopped):
        trainer(folder, stop=StopAfter(13)).run()
    store = CheckpointStore(folder / "a")
    entries = read_json(store.folder / "manifest.json")
    assert len(entries) == 2
    return entries, store


def enter(store: CheckpointStore, entries: list[dict]) -> None:
    """Somebody who can write the file can write its checksum, too."""
    entries[-1]["sha256"] = sha256_file(store.folder / entries[-1]["file"])
    write_json(store.folder / "manifest.json", entries)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_with_the_right_checksum_is_passed_over(tmp_path, name):
    make, words = HOSTILE[name]
    entries, store = stopped(tmp_path)
    (store.folder / entries[-1]["file"]).write_bytes(make(tmp_path / "ran"))
    enter(store, entries)
    said: list[str] = []
    found, _ = store.latest(said.append)
    assert found.state["step"] == entries[0]["step"] and not (tmp_path / "ran").exists()
    assert f"checkpoint {entries[-1]['file']} is not taken (" in said[0] and words in said[0] and "trying the one before" in said[0]


def wider(snapshot: Snapshot) -> Snapshot:
    return Snapshot({**snapshot.tensors, "model.net.0.weight": torch.zeros(32, 6)}, snapshot.state)


def renamed(snapshot: Snapshot) -> Snapshot:
    return Snapshot({k.replace("net.3", "head"): v for k, v in snapshot.tensors.items()}, snapshot.state)


def without_moments(snapshot: Snapshot) -> Snapshot:
    return Snapshot({k: v for k, v in snapshot.tensors.items() if not k.endswith("net.0.weight.exp_avg")}, snapshot.state)


def small_moments(snapshot: Snapshot) -> Snapshot:
    return Snapshot({**snapshot.tensors, "optimizer.net.0.weight.exp_avg": torch.zeros(3)}, snapshot.state)


def saying(**changed):
    return lambda snapshot: Snapshot(snapshot.tensors, {**snapshot.state, **changed})


FOREIGN = {
    "wider": (wider, "of another model: 'net.0.weight' is (32, 6) in it, (16, 6) here"),
    "other names": (renamed, "of another model: the optimiser's 'head."),
    "half an optimiser": (without_moments, "state of 'net.0.weight' is not whole: exp_avg is missing"),
    "another optimiser": (small_moments, "the optimiser's 'net.0.weight.exp_avg' of (3,) fits no parameter"),
    "no threads": (saying(threads="all"), "threads is 'all'"),
    "a step below none": (saying(step=-1), "step is -1"),
    "a step of a fraction": (saying(step=1.5), "step is 1.5"),
    "no history": (saying(history="__import__('os').mkdir('ran')"), "its history is no list"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_one_of_another_model_or_of_no_training_is_passed_over_and_the_end_is_the_same(tmp_path, name):
    change, words = FOREIGN[name]
    whole = trainer(tmp_path, "whole")
    whole.run()
    entries, store = stopped(tmp_path)
    found, best = store.latest()
    entries[-1]["sha256"] = store._write(entries[-1]["file"], change(found))
    enter(store, entries)
    said: list[str] = []
    again = trainer(tmp_path, say=said.append)
    again.run()
    assert words in said[0] and "trying the one before" in said[0]
    assert f"resuming at step {entries[0]['step']} " in said[1]
    assert result(again) == result(whole)


def test_where_none_is_left_it_begins_anew_and_says_so(tmp_path):
    whole = trainer(tmp_path, "whole")
    whole.run()
    entries, store = stopped(tmp_path)
    for entry in entries:
        (store.folder / entry["file"]).write_bytes(b"\x80\x04K\x01.")
    said: list[str] = []
    again = trainer(tmp_path, say=said.append)
    again.run()
    assert sum("a pickle, which could run any code" in line for line in said) == 2 and not any("resuming" in line for line in said)
    assert result(again) == result(whole)


def test_a_state_too_deep_to_read_and_a_link_out_of_the_folder(tmp_path):
    from trainyard.data.tensors import header_bytes

    entries, store = stopped(tmp_path)
    path = store.folder / entries[-1]["file"]
    path.write_bytes(header_bytes([("a", "F32", (1,), 4)], {"run": "a", "state": "[" * 200_000}) + np.zeros(1, np.float32).tobytes())
    enter(store, entries)
    said: list[str] = []
    assert store.latest(said.append)[0].state["step"] == entries[0]["step"] and "is not taken" in said[0]
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to("/etc/hostname")
    assert store.latest(said.append)[0].state["step"] == entries[0]["step"]
    write_json(store.folder / "manifest.json", json.loads("[" * 50 + "]" * 50))
    assert store.latest(said.append)[0].state["step"] == entries[0]["step"], "from the manifest before it"
