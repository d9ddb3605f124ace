"""Packs: what is written is what is read; nothing untrue is opened; nothing half-written stays."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from trainyard.data.pack import Pack, PackError, PackWriter


def write(path, samples):
    with PackWriter(path, {"format": "test"}) as writer:
        for i, (fixed, notes, name) in enumerate(samples):
            writer.add(
                {"x": np.asarray(fixed, np.float32), "label": np.int64(i)},
                {"notes": np.asarray(notes, np.int16).reshape(-1, 2), "id": name},
            )


FIXED = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3)
NOTES = st.lists(st.tuples(st.integers(-99, 99), st.integers(0, 9)), max_size=5)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(st.tuples(FIXED, NOTES, NAMES), min_size=1, max_size=6))
def test_round_trip(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("pack") / "a.safetensors"
    write(path, samples)
    pack = Pack(path)
    assert len(pack) == len(samples) and pack.texts("id") == [s[2] for s in samples]
    for i, (fixed, notes, _) in enumerate(samples):
        assert np.array_equal(pack.fixed("x")[i], np.asarray(fixed, np.float32))
        assert pack.at("notes", i).tolist() == [list(n) for n in notes]
    assert np.array_equal(load_file(path)["x"], pack.fixed("x"))  # a plain safetensors file


def test_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), PackWriter(tmp_path / "a.safetensors", {}) as writer:
        writer.add({"x": np.zeros(3)})
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []


def test_mixed_shapes_are_refused(tmp_path):
    with pytest.raises(PackError, match="shape"), PackWriter(tmp_path / "a.safetensors", {}) as writer:
        writer.add({"x": np.zeros(3)})
        writer.add({"x": np.zeros(4)})


def lie(path, change):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["x"].update(data_offsets=[0, 1 << 60]),
        lambda h: h["x"].update(shape=[1 << 40, 3]),
        lambda h: h["x"].update(shape=[-1, 3]),
        lambda h: h["x"].update(dtype="PICKLE"),
        lambda h: h.update(y=3),
    ],
)
def test_lying_headers_are_refused(tmp_path, change):
    path = tmp_path / "a.safetensors"
    write(path, [([1, 2, 3], [(1, 2)], "a")])
    lie(path, change)
    with pytest.raises(PackError, match="a.safetensors"):
        Pack(path)


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 8, struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 9) + b"not json!"]
)
def test_not_safetensors_is_refused(tmp_path, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(PackError, match="a.safetensors"):
        Pack(path)
