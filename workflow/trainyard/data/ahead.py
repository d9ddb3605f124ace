"""Work on many files, in order: with many in flight where each waits for its storage, one after another where it answers at once."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from trainyard.data.patience import QUICK, Patience
from trainyard.data.storage import NEAR_READS

T = TypeVar("T")
R = TypeVar("R")

BATCH, BATCH_BYTES = 32, 4 << 20  # files that go through all stages together: a round trip for each tiny one would cost more than it
WINDOW_BYTES = 256 << 20  # ahead at most, and at least one batch

Batch = tuple[Sequence[T], int]  # items, and bytes of them all


def in_batches(items: Iterable[T], size: Callable[[T], int] = lambda item: 0, most: int | None = None) -> Iterator[Batch]:
    """Items in their order, a few at a time (`most`: other than BATCH)."""
    most = most or BATCH
    batch: list[T] = []
    total = 0
    for item in items:
        batch.append(item)
        total += size(item)
        if len(batch) >= most or total >= BATCH_BYTES:
            yield batch, total
            batch, total = [], 0
    if batch:
        yield batch, total


class Ahead:
    """Threads that work ahead of the one that takes what they have done, by a bounded number of items and bytes."""

    def __init__(self, threads: int, window: float = WINDOW_BYTES, quick: float = QUICK):
        """`window`: bytes; `quick`: seconds an item may take that is no matter for threads."""
        self._window, self._quick = window, quick
        self._near = threads <= NEAR_READS
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._most = 4 * threads + BATCH

    def map(
        self, work: Callable[[T], R], batches: Iterable[Batch], at_once: Callable[[T], R | None] = lambda item: None
    ) -> Iterator[tuple[Sequence[T], list[R]]]:
        """Each batch with its results, in order. `at_once` may give those that need no thread.

        Where few threads were asked for, storage is taken to answer quickly until it does not, else the other way round: what counts
        is how long each batch took. As long as they are quick, items are worked on here; else each has a thread to wait in.
        """
        waiting: deque[tuple[Sequence[T], int, list[Any]]] = deque()
        items_ahead = bytes_ahead = 0
        quick = self._near

        def submit(item: T) -> R | Future:
            done = at_once(item)
            return self._pool.submit(_timed, work, item) if done is None else done

        def take() -> tuple[Sequence[T], list[R]]:
            nonlocal items_ahead, bytes_ahead, quick
            items, size, coming = waiting.popleft()
            items_ahead, bytes_ahead = items_ahead - len(items), bytes_ahead - size
            results, seconds = _gather(coming)
            if seconds:
                quick = sorted(seconds)[len(seconds) // 2] < self._quick
            return items, results

        for items, size in batches:
            while waiting and (
                quick or items_ahead + len(items) > self._most or bytes_ahead + size > self._window or _all_done(waiting[0][2])
            ):
                yield take()
            if not quick:
                waiting.append((items, size, [submit(item) for item in items]))
                items_ahead, bytes_ahead = items_ahead + len(items), bytes_ahead + size
                continue
            results: list[Any] = []
            patience = Patience(self._quick)
            for item in items:
                if not quick:
                    results.append(submit(item))
                    continue
                done = at_once(item)
                results.append(work(item) if done is None else done)
                quick = not patience.ends(len(results))
            yield items, results if quick else _gather(results)[0]
        while waiting:
            yield take()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _timed(work: Callable[[T], R], item: T) -> tuple[R, float]:
    begun = time.perf_counter()
    return work(item), time.perf_counter() - begun


def _all_done(coming: Sequence[Any]) -> bool:
    return all(not isinstance(c, Future) or c.done() for c in coming)


def _gather(coming: Sequence[Any]) -> tuple[list[Any], list[float]]:
    """The results, and how long those of threads took."""
    results, seconds = [], []
    for result in coming:
        if isinstance(result, Future):
            result, taken = result.result()
            seconds.append(taken)
        results.append(result)
    return results, seconds
