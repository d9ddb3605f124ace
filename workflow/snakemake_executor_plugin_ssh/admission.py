"""Which host a job goes to: room by cores, memory and GPUs, and a queue that keeps its order without blocking on what must wait."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

_OVERTAKEN = 20


@dataclass(frozen=True)
class Need:
    """What a job asks for. `host`: only there; None: anywhere it fits."""

    cores: int = 1
    mem_mb: int = 0
    gpu: int = 0
    host: str | None = None


@dataclass
class Room:
    """What a host has, and what of it is given away."""

    name: str
    cores: int
    mem_mb: int
    gpu: int
    open: bool = False
    used_cores: int = 0
    used_mem_mb: int = 0
    gpus_free: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.gpus_free = list(range(self.gpu))

    def could(self, need: Need) -> bool:
        """Whether the job fits when nothing else runs here."""
        return need.host in (None, self.name) and need.cores <= self.cores and need.mem_mb <= self.mem_mb and need.gpu <= self.gpu

    def fits(self, need: Need) -> bool:
        """Whether it fits now."""
        return (
            self.open
            and self.could(need)
            and need.cores <= self.cores - self.used_cores
            and need.mem_mb <= self.mem_mb - self.used_mem_mb
            and need.gpu <= len(self.gpus_free)
        )

    def take(self, need: Need, gpus: Iterable[int] | None = None) -> tuple[int, ...]:
        """Give room away; returns the numbers of the GPUs. `gpus`: those that a job found running already has."""
        self.used_cores += need.cores
        self.used_mem_mb += need.mem_mb
        chosen = tuple(self.gpus_free[: need.gpu] if gpus is None else gpus)
        self.gpus_free = [gpu for gpu in self.gpus_free if gpu not in chosen]
        return chosen

    def give_back(self, need: Need, gpus: Iterable[int]) -> None:
        self.used_cores -= need.cores
        self.used_mem_mb -= need.mem_mb
        self.gpus_free = sorted([*self.gpus_free, *gpus])

    def load_with(self, need: Need) -> tuple:
        """For choosing: hosts with idle GPUs last for jobs without, then the least loaded."""
        return (self.gpu > 0 and need.gpu == 0, (self.used_cores + need.cores) / self.cores, self.name)


class Queue:
    """Waiting jobs, in order, one line for each kind of need. A kind that has no room is passed over until room is given back;
    one that was overtaken often gets the next host that can take it for itself."""

    def __init__(self):
        self._lines: OrderedDict[Need, deque] = OrderedDict()
        self._overtaken: dict[Need, int] = {}
        self.reserved: dict[str, Need] = {}

    def __len__(self):
        return sum(map(len, self._lines.values()))

    def add(self, need: Need, item, first: bool = False) -> None:
        line = self._lines.setdefault(need, deque())
        line.appendleft(item) if first else line.append(item)

    def needs(self) -> list[Need]:
        """Kinds that wait, the longest waiting first."""
        return list(self._lines)

    def waiting(self, need: Need) -> list:
        return list(self._lines.get(need, ()))

    def remove(self, need: Need, item) -> None:
        line = self._lines.get(need)
        if line and item in line:
            line.remove(item)
            self._drop_empty(need)

    def next_for(self, need: Need, rooms: Iterable[Room]) -> tuple | None:
        """(item, room) for the first of this kind, on the best of the rooms that have place now; None: none has."""
        free = [room for room in rooms if room.fits(need) and self.reserved.get(room.name, need) == need]
        line = self._lines.get(need)
        if not line:
            return None
        if not free:
            return None
        room = min(free, key=lambda room: room.load_with(need))
        item = line.popleft()
        self._drop_empty(need)
        self._started(need, room)
        return item, room

    def _started(self, need: Need, room: Room) -> None:
        self._overtaken.pop(need, None)
        if self.reserved.get(room.name) == need:
            del self.reserved[room.name]
        for other in self._lines:
            if other != need and room.could(other):
                # Only a job that would have fitted here if this one had waited has been overtaken.
                self._overtaken[other] = self._overtaken.get(other, 0) + 1
                if self._overtaken[other] >= _OVERTAKEN and room.name not in self.reserved and other not in self.reserved.values():
                    self.reserved[room.name] = other

    def _drop_empty(self, need: Need) -> None:
        if not self._lines.get(need):
            self._lines.pop(need, None)
            self._overtaken.pop(need, None)
            self.reserved = {name: other for name, other in self.reserved.items() if other != need}
