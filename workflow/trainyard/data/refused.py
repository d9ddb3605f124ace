"""What is left out, with the reason: the word for it, and the list of it that people read."""

import csv
import os
from collections.abc import Iterable


class Refused(ValueError):
    """A sample that cannot be used; the message says why, for quarantine.csv."""


def write_quarantine(path: str | os.PathLike, rows: Iterable[tuple[str, str]]) -> None:
    """quarantine.csv: a row a refused sample, its path and the reason. Not atomic: whoever calls puts it into place."""
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "reason"))
        writer.writerows(rows)
