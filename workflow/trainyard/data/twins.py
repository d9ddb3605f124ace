"""Equal contents: found while files are read, kept once, never on two sides of a split."""

from array import array
from collections.abc import Iterator, Sequence

from trainyard.data.digests import Digests
from trainyard.data.loading import Given, Loaded, Sample


class Twins:
    """Contents seen so far. `extras`: where samples of one content and other annotations are kept within a split, those."""

    def __init__(self, ids: Sequence[str], splits: Sequence[str], extras: Sequence[str | None] | None = None):
        self._ids, self._splits, self._extras = ids, splits, extras
        self._contents, self._rows = Digests(), array("q")  # and the first row of each

    def remember(self, digest: bytes, row: int) -> int:
        """The row in which a content came first: this one, if it is new."""
        number = self._contents.add(digest)
        if number == len(self._rows):
            self._rows.append(row)
        return self._rows[number]

    def look(self, split: str, loaded: Iterator[list[Given]]) -> Iterator[list[Given]]:
        """What was loaded for a split; contents that were seen before are refused."""
        return ([self._look(split, *given) for given in batch] for batch in loaded)

    def _look(self, split: str, sample: Sample, content: Loaded) -> Given:
        row = sample["at"]
        twin = row if content.refused is not None else self.remember(content.digest, row)
        if twin == row:
            return sample, content
        other, where = self._ids[twin], self._splits[twin]
        if where != split:
            reason = f"same content as '{other}' in {where}; it would leak into {split}"
            return sample, content._replace(blobs=[], kind="across", refused=reason)
        if self._extras is not None and self._extras[twin] != self._extras[row]:
            return sample, content._replace(kind="again")
        return sample, content._replace(blobs=[], kind="inside", refused=f"same content as '{other}'; one of them is enough")
