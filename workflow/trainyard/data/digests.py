"""A set of 128-bit digests in about 30 bytes each, where Python's own takes 180."""

from array import array

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
        slots = array("i", [-1]) * (2 * len(self._slots))
        mask = len(slots) - 1
        for number in range(len(self)):
            at = int.from_bytes(self._data[number * SIZE : number * SIZE + 8], "little") & mask
            while slots[at] >= 0:
                at = (at + 1) & mask
            slots[at] = number
        self._slots = slots
