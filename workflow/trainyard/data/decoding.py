"""Two ways to turn loaded samples into fields: in this process for rows, in workers for files."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trainyard.data.loading import Loaded, Sample
from trainyard.data.refused import Refused
from trainyard.data.workers import Decoded, DecodePool, Task

CHUNK_FILES, CHUNK_BYTES = 32, 4 << 20  # what goes to a worker at once: a round trip for each tiny file would cost more than it

Decode = Callable[[Iterator[tuple[Sample, Loaded]]], Iterator[tuple[Sample, Decoded]]]


def reader_class(target: str) -> Any:
    """The class of a reader, `module:Class`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def decode_here(reader: Any) -> Decode:
    """For formats whose rows cannot crash a parser."""

    def decode(loaded: Iterator[tuple[Sample, Loaded]]) -> Iterator[tuple[Sample, Decoded]]:
        for sample, content in loaded:
            try:
                yield sample, Decoded(*reader.read(content.blobs, sample))
            except Refused as reason:
                yield sample, Decoded({}, {}, str(reason))

    return decode


def decode_there(pool: DecodePool) -> Decode:
    """In the pool's workers; the order stays."""

    def decode(loaded: Iterator[tuple[Sample, Loaded]]) -> Iterator[tuple[Sample, Decoded]]:
        sent: list[list[Sample]] = []
        for answers in pool.map(_chunks(loaded, sent)):
            yield from zip(sent.pop(0), answers)

    return decode


def _chunks(loaded: Iterator[tuple[Sample, Loaded]], sent: list[list[Sample]]) -> Iterator[list[Task]]:
    chunk: list[Task] = []
    size = 0
    for sample, content in loaded:
        chunk.append(Task(sample, content.blobs))
        size += sum(map(len, content.blobs))
        if len(chunk) >= CHUNK_FILES or size >= CHUNK_BYTES:
            sent.append([t.sample for t in chunk])
            yield chunk
            chunk, size = [], 0
    if chunk:
        sent.append([t.sample for t in chunk])
        yield chunk


class OneShape:
    """Refuses a sample whose fields are not those of the first one: a pack has one dtype and shape a field."""

    def __init__(self) -> None:
        self._shape: dict[str, tuple] | None = None

    def check(self, decoded: Decoded) -> Decoded:
        shape: dict[str, tuple] = {}
        for name, value in decoded.fixed.items():
            shape[name] = ("fixed", np.asarray(value).dtype.str, np.shape(value))
        for name, value in decoded.ragged.items():
            shape[name] = ("text",) if isinstance(value, str) else ("ragged", value.dtype.str, value.shape[1:])
        if self._shape is None:
            self._shape = shape
        if shape == self._shape:
            return decoded
        odd = next(n for n in sorted(shape.keys() | self._shape.keys()) if shape.get(n) != self._shape.get(n))
        return Decoded({}, {}, f"its '{odd}' is {_words(shape.get(odd))}, that of others {_words(self._shape.get(odd))}")


def _words(shape: tuple | None) -> str:
    if shape is None:
        return "missing"
    return "text" if shape == ("text",) else f"{np.dtype(shape[1])} of shape {tuple(shape[2])}"
