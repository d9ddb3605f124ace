"""Working ahead: order, bounds, and that neither quick nor slow storage changes what comes out."""

import threading
import time

import pytest
import trainyard.data.ahead as ahead
from trainyard.data.ahead import Ahead, in_batches


def test_batches_hold_a_few_items_and_bytes() -> None:
    assert [len(items) for items, _ in in_batches(range(70))] == [32, 32, 6]
    assert list(in_batches([1, 2, 3], lambda item: 3 << 20)) == [([1, 2], 6 << 20), ([3], 3 << 20)]


@pytest.mark.parametrize("threads", [4, 40])
def test_everything_comes_in_order_with_a_bounded_number_under_way(threads: int) -> None:
    """Storage that is quick, then slow, then quick again."""
    begun, most = 0, 0
    lock = threading.Lock()

    def work(item: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        if 200 <= item < 400:
            time.sleep(0.002)
        return item * item

    taken = 0
    with_threads = Ahead(threads)
    for items, results in with_threads.map(work, in_batches(range(1000)), lambda item: -1 if item % 7 == 0 else None):
        most = max(most, begun - taken)
        taken += len(items)
        assert results == [-1 if item % 7 == 0 else item * item for item in items]
    with_threads.close()
    assert taken == 1000 and most <= 4 * threads + 2 * ahead.BATCH


def test_slow_storage_is_waited_for_by_all_threads_at_once() -> None:
    together, most = 0, 0
    lock = threading.Lock()

    def work(item: int) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.01)
        with lock:
            together -= 1

    for threads in (8, 64):
        most = 0
        pool = Ahead(threads)
        list(pool.map(work, in_batches(range(300))))
        pool.close()
        assert most > threads // 2


def test_an_error_of_the_work_comes_out() -> None:
    def work(item: int) -> None:
        raise OSError("gone")

    for threads in (1, 64):
        with pytest.raises(OSError, match="gone"):
            list(Ahead(threads).map(work, in_batches(range(3))))
