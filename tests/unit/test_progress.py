"""The heartbeat and the events for TensorBoard: what they say, and that they never stop a training."""

import json
import os
import struct
import time

import pytest
from trainyard.train import tensorboard
from trainyard.train.progress import Heartbeat, process_started
from trainyard.train.tensorboard import EventFile


def test_a_heartbeat_says_how_far_how_fast_and_how_long(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    beat = Heartbeat(tmp_path / "a" / "progress.json", suite="s", run="r")
    assert beat.due(0)
    beat.beat(0, 400, 16, loss=None, last_checkpoint=0)
    assert json.loads((tmp_path / "a" / "progress.json").read_text())["eta_seconds"] is None
    now[0] += 0.5
    assert not beat.due(50), "once a second at most"
    now[0] += 9.5
    beat.beat(100, 400, 16, loss=0.5, last_checkpoint=80)
    said = json.loads((tmp_path / "a" / "progress.json").read_text())
    assert (said["step"], said["steps"], said["loss"], said["last_checkpoint"]) == (100, 400, 0.5, 80)
    assert said["samples_per_second"] == pytest.approx(160) and said["eta_seconds"] == pytest.approx(30)
    assert 0 < said["eta_low"] < 30 < said["eta_high"]
    assert (said["pid"], said["pid_started"]) == (os.getpid(), process_started(os.getpid())) and said["host"] and said["memory_mb"] > 0
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["progress.json"]


def test_a_clock_that_jumps_changes_no_rate(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    beat = Heartbeat(tmp_path / "progress.json")
    beat.beat(0, 100, 1)
    monkeypatch.setattr(time, "time", lambda: -5e8)
    now[0] += 10
    beat.beat(50, 100, 1)
    assert json.loads((tmp_path / "progress.json").read_text())["eta_seconds"] == pytest.approx(10)


def test_a_lost_heartbeat_costs_nothing(tmp_path):
    beat = Heartbeat(tmp_path / "progress.json")
    (tmp_path / "progress.json").mkdir()
    beat.beat(1, 2, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["progress.json"]


def crc32c(data: bytes) -> int:
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def unmasked(data: bytes) -> int:
    rotated = struct.unpack("<I", data)[0] - 0xA282EAD8 & 0xFFFFFFFF
    return (rotated << 15 | rotated >> 17) & 0xFFFFFFFF


def records(data: bytes) -> list[bytes]:
    """Events of a TFRecord file, their checksums checked."""
    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert unmasked(data[8:12]) == crc32c(data[:8]) and unmasked(data[12 + length : 16 + length]) == crc32c(data[12 : 12 + length])
        found.append(data[12 : 12 + length])
        data = data[16 + length :]
    return found


def test_events_are_records_with_their_checksums(tmp_path):
    assert crc32c(b"123456789") == 0xE3069283, "the standard's check value"
    events = EventFile(tmp_path)
    events.scalars(300, {"loss/train": 0.5, "lr": 1e-3})
    first, start, scalars = records(events.path.read_bytes())
    assert b"brain.Event:2" in first and start[9:] == b"\x10\xac\x02\x3a\x02\x08\x01", "a later attempt takes back later steps"
    assert scalars[9:12] == b"\x10\xac\x02" and b"loss/train\x15" + struct.pack("<f", 0.5) in scalars and b"lr\x15" in scalars
    assert events.path.name.startswith("events.out.tfevents.")


def test_events_on_a_full_disk_are_lost_in_silence(tmp_path, monkeypatch):
    events = EventFile(tmp_path)

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(tensorboard, "open", full, raising=False)
    events.scalars(1, {"loss": 1.0})
