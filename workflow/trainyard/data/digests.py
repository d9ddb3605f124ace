"""A set of 128-bit digests in about 30 bytes each, where Python's own takes 180."""

from array import array

import numpy as np

SIZE = 16  # bytes of a digest
SLOTS = 1 << 10  # at the beginning; always a power of two
FULL = 0.6  # share of the slots that may be taken: beyond it, collisions make looking long


class Digests:
    """Digests in the order in which they first came: each has a number. Open addressing; they are hashes already."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._slots = array("i", [-1]) * SLOTS  # numbers of digests, where their first bytes point or behind

    def __len__(self) -> int:
        return len(self._data) // SIZE

    def add(self, digest: bytes) -> int:
        """The number of a digest; len() before the call where it is new."""
        data, slots = self._data, self._slots
        mask = len(slots) - 1
        at = int.from_bytes(digest[:8], "little") & mask
        while (number := slots[at]) >= 0:
            if data.startswith(digest, number * SIZE):
                return number
            at = (at + 1) & mask
        number = len(data) // SIZE
        slots[at] = number
        data += digest
        if number + 1 > FULL * len(slots):
            self._grow()
        return number

    def _grow(self) -> None:
        """Twice as many slots. Digests in the order in which they want to lie take the next free slot each, as if added one by one."""
        size = 2 * len(self._slots)
        wanted = np.frombuffer(self._data, "<u8")[::2] & np.uint64(size - 1)
        order = np.argsort(wanted)
        steps = np.arange(len(order))
        places = np.maximum.accumulate(wanted[order].astype(np.int64) - steps) + steps
        slots = np.full(size, -1, np.int32)
        inside = places < size
        slots[places[inside]] = order[inside]
        self._slots = array("i", slots.tobytes())
        for number in order[~inside].tolist():  # behind the end it goes on at the beginning
            self._put(number)

    def _put(self, number: int) -> None:
        slots = self._slots
        at = int.from_bytes(self._data[number * SIZE : number * SIZE + 8], "little") & (len(slots) - 1)
        while slots[at] >= 0:
            at = (at + 1) & (len(slots) - 1)
        slots[at] = number
