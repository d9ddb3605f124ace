"""Two ways to turn loaded samples into fields: in this process for rows, in workers for files."""

import importlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from trainyard.data.ahead import Batch
from trainyard.data.fork import MadeAhead, can_fork
from trainyard.data.loading import Given, Loaded, Loader, Sample
from trainyard.data.refused import Refused
from trainyard.data.sources import Stamp
from trainyard.data.workers import Decoded, DecodePool, Task

# Batches of what was loaded, in order, with the fields of each sample or the reason why it has none.
Decode = Callable[[Iterator[list[Given]]], Iterator[list[tuple[Sample, Loaded, Decoded]]]]


def reader_class(target: str) -> Any:
    """The class of a reader, `module:Class`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def decode_here(reader: Any) -> Decode:
    """For formats whose rows cannot crash a parser."""

    def decode(sample: Sample, content: Loaded) -> tuple[Sample, Loaded, Decoded]:
        try:
            return sample, content, _left_out(content) or content.decoded or Decoded(*reader.read(content.blobs, sample))
        except Refused as reason:
            return sample, content, Decoded({}, {}, str(reason))

    return lambda loaded: ([decode(*given) for given in batch] for batch in loaded)


class DecodedAhead(Loader):
    """A loader whose samples are decoded too, by a fork, while this process is at work with those before. Where it cannot fork, they are
    only loaded."""

    def __init__(self, loader: Loader, reader: Any):
        self._loader, self._decode = loader, decode_here(reader)
        self._made: MadeAhead[list[tuple]] | None = None

    def load(self, batches: Iterable[Batch]) -> Iterator[list[Given]]:
        if not can_fork():
            return self._loader.load(batches)
        read = self._decode(self._loader.load(batches))
        # Bare tuples: classes by name would take longer on their way than what is in them. The bytes stay there.
        self._made = MadeAhead([(*content[1:-1], *decoded) for _, content, decoded in batch] for batch in read)
        return (list(zip(samples, map(_brought, rows))) for (samples, _), rows in zip(batches, self._made))

    def unchanged(self, samples: Sequence[Sample], known: Sequence[tuple[str | None, Sequence[Stamp]]]) -> int:
        return self._loader.unchanged(samples, known)

    def close(self) -> None:
        if self._made is not None:
            self._made.close()
        self._loader.close()


def _brought(row: tuple) -> Loaded:
    digest, refused, stamps, files, size, kind, *decoded = row
    return Loaded([], digest, refused, stamps, files, size, kind, Decoded(*decoded))


def decode_there(pool: DecodePool) -> Decode:
    """In the pool's workers; the order stays."""

    def decode(loaded: Iterator[list[Given]]) -> Iterator[list[tuple[Sample, Loaded, Decoded]]]:
        sent: deque[list[Given]] = deque()

        def tasks(batch: list[Given]) -> list[Task]:
            sent.append([(sample, content.without_bytes()) for sample, content in batch])
            return [Task(sample, content.blobs) for sample, content in batch if content.refused is None]

        for answers in pool.map(map(tasks, loaded)):
            answer = iter(answers)
            yield [(sample, content, _left_out(content) or next(answer)) for sample, content in sent.popleft()]

    return decode


def _left_out(content: Loaded) -> Decoded | None:
    return None if content.refused is None else Decoded({}, {}, content.refused)


class OneShape:
    """Refuses a sample whose fields are not those of the first one: a pack has one dtype and shape a field."""

    def __init__(self) -> None:
        self.known: dict[str, list] | None = None  # as JSON can hold it
        self._seen: list[tuple] = []  # the same as it was last seen: samples are compared with that

    def refusal(self, decoded: Decoded) -> str | None:
        """Why a sample cannot be packed with those before it, or None."""
        seen = [_look(name, value, 0) for name, value in decoded.fixed.items()]
        seen += [(name,) if isinstance(value, str) else _look(name, value, 1) for name, value in decoded.ragged.items()]
        if seen == self._seen:
            return None
        shape = {name: _described(*rest) for name, *rest in seen}
        if self.known is None:
            self.known = shape
        if shape == self.known:
            self._seen = seen
            return None
        odd = next(n for n in sorted(shape.keys() | self.known.keys()) if shape.get(n) != self.known.get(n))
        return f"its '{odd}' is {_words(shape.get(odd))}, that of others {_words(self.known.get(odd))}"


def _look(name: str, value: Any, ragged: int) -> tuple:
    """Name, whether it is ragged, dtype and shape of a field that is no text; of those there is only the name."""
    return name, ragged, np.asarray(value).dtype, np.shape(value)[ragged:]


def _described(ragged: int = 0, dtype: np.dtype | None = None, shape: tuple[int, ...] = ()) -> list:
    return ["text"] if dtype is None else ["ragged" if ragged else "fixed", dtype.str, list(shape)]


def _words(shape: list | None) -> str:
    if shape is None:
        return "missing"
    return "text" if shape == ["text"] else f"{np.dtype(shape[1])} of shape {tuple(shape[2])}"
