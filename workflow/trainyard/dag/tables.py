"""What a call that ends well shows of its suites."""

from collections.abc import Iterable, Iterator
from pathlib import Path

LATE = 5.0  # seconds by which the clock of a file system may be behind


def fresh_comparisons(suites: Iterable[str], since: float, logs: Path = Path("logs")) -> Iterator[str]:
    """The comparison of each suite that was made since then (epoch seconds): a call of a few targets says nothing of older ones."""
    for suite in suites:
        table = logs / "compare_models" / f"{suite}.log"
        if table.exists() and table.stat().st_mtime >= since - LATE:
            yield f"\n{suite}\n{table.read_text(encoding='utf-8')}"
