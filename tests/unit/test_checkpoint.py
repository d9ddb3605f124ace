"""Checkpoints: atomic, verified, pickle-free."""

import json

import pytest
import torch
from trainyard.train.checkpoint import CheckpointStore, Snapshot


def snapshot(step):
    return Snapshot({"model.w": torch.full((3,), float(step)), "optimizer.w.step": torch.tensor(float(step))}, {"step": step})


def filled(tmp_path, steps=(1, 2, 3), keep=2):
    store = CheckpointStore(tmp_path, keep)
    for step in steps:
        store.save(step, snapshot(step), Snapshot({"w": torch.tensor([float(step)])}, {"epoch": step}))
    return store


def test_round_trip_and_retention(tmp_path):
    store = filled(tmp_path)
    found, best = store.latest()
    assert found.state == {"step": 3} and torch.equal(found.tensors["model.w"], torch.full((3,), 3.0)) and best.state == {"epoch": 3}
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-000000002.safetensors", "step-000000003.safetensors"]
    assert sorted(p.name for p in tmp_path.glob("best-*")) == ["best-000002.safetensors", "best-000003.safetensors"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "gone", "empty"])
def test_damaged_checkpoint_is_passed_over_with_a_word(tmp_path, damage):
    filled(tmp_path)
    path = tmp_path / "step-000000003.safetensors"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"truncate": data[:-5], "flip": data[:-1] + bytes([data[-1] ^ 1]), "empty": b""}[damage])
    lines = []
    found, _ = CheckpointStore(tmp_path).latest(lines.append)
    assert found.state == {"step": 2}
    assert any("step-000000003" in line for line in lines)


def test_damaged_best_is_written_again_and_not_referred_to(tmp_path):
    """A run that passed over a checkpoint for its damaged best comes to the same best again."""
    best = Snapshot({"w": torch.tensor([4.0])}, {"epoch": 4})
    store = filled(tmp_path)
    store.save(9, snapshot(9), best)
    path = tmp_path / "best-000004.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    store = CheckpointStore(tmp_path)
    assert store.latest(lambda _: None)[0].state == {"step": 3}
    for step in (10, 12):
        store.save(step, snapshot(step), best)
    found, again = CheckpointStore(tmp_path).latest()
    assert found.state == {"step": 12} and torch.equal(again.tensors["w"], best.tensors["w"])


def test_best_is_written_once(tmp_path):
    """Also where the process that wrote it is another one."""
    filled(tmp_path)
    written = (tmp_path / "best-000003.safetensors").stat().st_mtime_ns
    store = CheckpointStore(tmp_path)
    _, best = store.latest()
    store.save(4, snapshot(4), best)
    assert (tmp_path / "best-000003.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize("best", ["best-000003.safetensors", {"file": 3, "sha256": ""}, [1]])
def test_manifest_with_another_kind_of_best_is_none(tmp_path, best):
    store = filled(tmp_path)
    entries = json.loads((tmp_path / "manifest.json").read_text())
    entries[-1]["best"] = best
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    found, _ = CheckpointStore(tmp_path).latest(lambda _: None)
    assert found.state == {"step": 2}
    store.save(4, snapshot(4), None)
    assert CheckpointStore(tmp_path).latest()[0].state == {"step": 4}


def test_torn_manifest_falls_back_to_the_one_before_and_says_so(tmp_path):
    filled(tmp_path)
    (tmp_path / "manifest.json").write_text('[{"file": "step-0000')
    lines = []
    found, _ = CheckpointStore(tmp_path).latest(lines.append)
    assert found.state == {"step": 2} and any("manifest.json" in line for line in lines)
    (tmp_path / "manifest.earlier.json").write_text("{}")
    assert CheckpointStore(tmp_path).latest(lines.append) is None


def test_manifest_cannot_point_outside_its_folder(tmp_path):
    store = filled(tmp_path / "inside")
    entries = json.loads((tmp_path / "inside" / "manifest.json").read_text())
    (tmp_path / "evil").write_bytes(b"x")
    entries[-1]["file"] = "../evil"
    (tmp_path / "inside" / "manifest.json").write_text(json.dumps(entries))
    found, _ = store.latest(lambda _: None)
    assert found.state == {"step": 2}


def test_second_process_is_refused(tmp_path):
    first, second = CheckpointStore(tmp_path), CheckpointStore(tmp_path)
    first.lock()
    with pytest.raises(RuntimeError, match="another training"):
        second.lock()
