"""Two ways to turn loaded samples into fields: in this process for rows, in workers for files."""

import importlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trainyard.data.loading import Loaded, Sample
from trainyard.data.refused import Refused
from trainyard.data.workers import Decoded, DecodePool, Task

CHUNK_FILES, CHUNK_BYTES = 32, 4 << 20  # what goes to a worker at once: a round trip for each tiny file would cost more than it

# What was loaded, in its order, with its fields or the reason why it has none; the bytes are gone by then.
Decode = Callable[[Iterator[tuple[Sample, Loaded]]], Iterator[tuple[Sample, Loaded, Decoded]]]


def reader_class(target: str) -> Any:
    """The class of a reader, `module:Class`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def decode_here(reader: Any) -> Decode:
    """For formats whose rows cannot crash a parser."""

    def decode(loaded: Iterator[tuple[Sample, Loaded]]) -> Iterator[tuple[Sample, Loaded, Decoded]]:
        for sample, content in loaded:
            try:
                decoded = _left_out(content) or Decoded(*reader.read(content.blobs, sample))
            except Refused as reason:
                decoded = Decoded({}, {}, str(reason))
            yield sample, content.without_bytes(), decoded

    return decode


def decode_there(pool: DecodePool) -> Decode:
    """In the pool's workers; the order stays."""

    def decode(loaded: Iterator[tuple[Sample, Loaded]]) -> Iterator[tuple[Sample, Loaded, Decoded]]:
        sent: deque[list[tuple[Sample, Loaded]]] = deque()
        for answers in pool.map(_chunks(loaded, sent)):
            answer = iter(answers)
            for sample, content in sent.popleft():
                yield sample, content, _left_out(content) or next(answer)

    return decode


def _left_out(content: Loaded) -> Decoded | None:
    return None if content.refused is None else Decoded({}, {}, content.refused)


def _chunks(loaded: Iterator[tuple[Sample, Loaded]], sent: deque[list[tuple[Sample, Loaded]]]) -> Iterator[list[Task]]:
    """Tasks for the workers; what a chunk holds, with what needs no worker between, is noted in `sent`."""
    chunk: list[Task] = []
    noted: list[tuple[Sample, Loaded]] = []
    size = 0
    for sample, content in loaded:
        if content.refused is None:
            chunk.append(Task(sample, content.blobs))
            size += content.size
        noted.append((sample, content.without_bytes()))
        if len(noted) >= CHUNK_FILES or size >= CHUNK_BYTES:
            sent.append(noted)
            yield chunk
            chunk, noted, size = [], [], 0
    if noted:
        sent.append(noted)
        yield chunk


class OneShape:
    """Refuses a sample whose fields are not those of the first one: a pack has one dtype and shape a field."""

    def __init__(self, known: dict[str, list] | None = None) -> None:
        self.known = known  # as JSON can hold it

    def check(self, decoded: Decoded) -> Decoded:
        shape: dict[str, list] = {}
        for name, value in decoded.fixed.items():
            shape[name] = ["fixed", np.asarray(value).dtype.str, list(np.shape(value))]
        for name, value in decoded.ragged.items():
            shape[name] = ["text"] if isinstance(value, str) else ["ragged", value.dtype.str, list(value.shape[1:])]
        if self.known is None:
            self.known = shape
        if shape == self.known:
            return decoded
        odd = next(n for n in sorted(shape.keys() | self.known.keys()) if shape.get(n) != self.known.get(n))
        return Decoded({}, {}, f"its '{odd}' is {_words(shape.get(odd))}, that of others {_words(self.known.get(odd))}")


def _words(shape: list | None) -> str:
    if shape is None:
        return "missing"
    return "text" if shape == ["text"] else f"{np.dtype(shape[1])} of shape {tuple(shape[2])}"
