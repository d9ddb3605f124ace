"""Files that a preflight reads beside the packs: the reports of the suite's other models, and the index of the raw data."""

from pathlib import Path
from typing import Any

from trainyard.data.files import read_json
from trainyard.data.index_file import paths_in

MOST_PATHS = 2000


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """The preflight reports of a suite that can be read, by model."""
    out = []
    for path in sorted(folder.glob("*.json")):
        try:
            report = read_json(path)
        except (OSError, ValueError):
            continue
        if isinstance(report, dict) and isinstance(report.get("checks"), list):
            out.append(report)
    return out


def bytes_of_others(folder: Path, suite: str, model: str) -> int:
    """Bytes of checkpoints that the suite's other models need, as far as their reports are in the folder."""
    others = [r for r in read_reports(folder) if r.get("suite") == suite and r.get("model") != model]
    return sum(int(r["needs"]["checkpoint_bytes"]) * int(r.get("runs", 1)) for r in others if r.get("needs"))


def sampled_paths(index: str) -> list[str]:
    """Paths of raw files spread over an index; each file once. Raises DataError."""
    paths = paths_in(index)
    step = max(1, len(paths) // MOST_PATHS)
    return [str(paths[i]) for i in range(0, len(paths), step)]
