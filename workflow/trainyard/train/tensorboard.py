"""Scalars as TensorBoard reads them, without TensorBoard: the few fields of its protocol that a scalar needs.

A file is a row of TFRecords (https://www.tensorflow.org/tutorials/load_data/tfrecord), each an Event
(https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto).
"""

import os
import socket
import struct
import time
from functools import cache
from pathlib import Path

SESSION_START = 1


class EventFile:
    """One file an attempt; its first event takes back what an earlier attempt wrote of later steps. Never a reason to stop."""

    def __init__(self, folder: str | os.PathLike):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._write(_text(3, "brain.Event:2"))
        self._begun = False

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write values by name at a step."""
        if not self._begun:
            self._begun = True
            self._write(_number(2, step) + _message(7, _number(1, SESSION_START)))
        summary = b"".join(_message(1, _text(1, name) + b"\x15" + struct.pack("<f", value)) for name, value in values.items())
        self._write(_number(2, step) + _message(5, summary))

    def _write(self, event: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + event
        length = struct.pack("<Q", len(event))
        try:
            with open(self.path, "ab") as file:
                file.write(length + _masked_crc(length) + event + _masked_crc(event))
        except OSError:
            return


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


@cache
def _crc_table() -> list[int]:
    """CRC-32C (Castagnoli), reflected: https://www.rfc-editor.org/rfc/rfc3720#appendix-B.4"""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def _masked_crc(data: bytes) -> bytes:
    """TFRecord's checksum: rotated, so that a checksum of checksums does not come out as a constant."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
