"""Numbered pieces of work shared among processes: each takes the next piece when it has done one, so that all end together.

Helpers are forks of this process; where it cannot be forked safely, which is where it has threads, and outside Linux, they are threads.
What they send back are arrays of numbers, as bytes.
"""

import os
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from trainyard.data.fork import Fork, Send, can_fork

MOST_PIECES = 1000  # their numbers must fit into a pipe that has one page of memory
Work = Callable[[int], Sequence[array]]


def share(work: Work, pieces: int, workers: int, first: Callable[[], object] = lambda: None) -> list[Sequence[array]]:
    """[work(0), …, work(pieces - 1)] from so many workers, this process among them, which calls `first` before its first piece.

    Raises what `work` raises in this process, and an OSError, DataError or MemoryError of a helper; RuntimeError for another one, and
    when a helper is killed. No helper is left behind: this process ends them when it fails or is interrupted, and they end by
    themselves, after their piece, when it is killed.
    """
    if not 0 <= pieces <= MOST_PIECES:
        raise ValueError(f"{pieces} pieces, not 0 to {MOST_PIECES}")
    helpers = min(workers, pieces) - 1
    if helpers < 1:
        first()
        return [work(piece) for piece in range(pieces)]
    if not can_fork():
        from concurrent.futures import ThreadPoolExecutor

        first()
        with ThreadPoolExecutor(helpers + 1) as pool:
            return list(pool.map(work, range(pieces)))
    tickets, fill = os.pipe()
    os.write(fill, array("I", range(pieces)).tobytes())
    os.close(fill)
    running: list[Fork] = []
    try:
        running += (Fork(partial(_help, work, tickets, os.getpid())) for _ in range(helpers))
        first()
        done: dict[int, Sequence[array]] = {piece: work(piece) for piece in _taken(tickets)}
        for helper in running:
            done.update(_results(helper))
    finally:
        os.close(tickets)
        for helper in running:
            helper.end()
    return [done[piece] for piece in range(pieces)]


def _taken(tickets: int) -> Iterator[int]:
    """The pieces that this process gets: whoever reads a number from the pipe has it for itself."""
    while ticket := os.read(tickets, 4):
        yield int.from_bytes(ticket, sys.byteorder)


def _help(work: Work, tickets: int, parent: int, send: Send) -> None:
    done = []
    for piece in _taken(tickets):
        if os.getppid() != parent:
            return
        done.append((piece, work(piece)))
    # Only now: whoever reads is at work too, and a full pipe would make this one wait. Memory goes as it is sent.
    done.reverse()
    while done:
        piece, arrays = done.pop()
        send(piece)
        for numbers in arrays:
            send(piece, numbers.typecode.encode(), numbers)


def _results(helper: Fork) -> dict[int, list[array]]:
    """The arrays of each piece that a helper has done."""
    done: dict[int, list[array]] = {}
    for piece, data in helper.received():
        arrays = done.setdefault(piece, [])
        if data:
            arrays.append(array(chr(data[0])))
            arrays[-1].frombytes(memoryview(data)[1:])
    return done
