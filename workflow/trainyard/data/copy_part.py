"""One split on its way into packs."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.data.journal import Journal, Kept


@dataclass(frozen=True)
class CopyPart:
    """One split: the folder it is made in, its rows of the index, the file of each shard (0: the split as a whole), and what the
    packs say of themselves."""

    work: Path
    split: str
    rows: array
    names: dict[int, str]
    meta: dict[str, Any]

    def take_up(self, journal: Journal) -> tuple[Kept, dict[int, Any] | None]:
        """What an earlier attempt has left, and writers that go on behind it, not yet entered; None when nothing is left to do.

        What no longer is as the journal says is forgotten.
        """
        kept = journal.of(self.split)
        if kept.last is None:
            return kept, self._writers()
        if kept.last.finished:
            if all((self.work / name).is_file() for name in self.names.values()):
                return kept, None
            return journal.forget(self.split, "a finished pack is gone"), self._writers()
        writers = self._writers()
        try:
            for shard, name in self.names.items():
                writers[shard].resume(kept.last.marks[name])
        except ValueError:
            return journal.forget(self.split, "its unfinished packs are not as they were left"), self._writers()
        return kept, writers

    def marks(self, writers: dict[int, Any]) -> dict[str, Any]:
        return {self.names[shard]: writer.mark() for shard, writer in writers.items()}

    def _writers(self) -> dict[int, Any]:
        return {shard: _writer(self.work / name, self.meta) for shard, name in self.names.items()}


def pack_names(format: str, split: str, shards: Iterable[int]) -> dict[int, str]:
    """The file of each shard of a split; shard 0 is the split as a whole."""
    ending = "jsonl" if format == "chat" else "safetensors"
    return {s: f"shard-{s:02d}.{ending}" if s else f"{split}.{ending}" for s in sorted(shards)}


def _writer(path: Path, meta: dict[str, Any]) -> Any:
    if path.suffix == ".jsonl":
        from trainyard.data.chat_pack import ChatWriter

        return ChatWriter(path, meta, keep=True)
    from trainyard.data.pack import PackWriter

    return PackWriter(path, meta, keep=True)
