"""Work of an iterator done one item ahead, in a thread: for reading and searching, which do not hold the interpreter's lock."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """The items; while one is used the next is made. Raises what the iterator raises, in its place."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, iterator, _END)
        while (item := coming.result()) is not _END:
            coming = pool.submit(next, iterator, _END)
            yield item
