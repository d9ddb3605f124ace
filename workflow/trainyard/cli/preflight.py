"""`trainyard preflight`: what the checks before training found."""

import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from trainyard.train.preflight_files import read_reports
from trainyard.train.preflight_table import overview, table


def run_preflight(results: Path, pattern: str | None) -> int:
    """Print a line a model and the troubles; with a pattern every check of what fits. Returns the exit code."""
    reports = [r for folder in sorted(results.glob("*/preflight")) for r in read_reports(folder)]
    if pattern:
        reports = [r for r in reports if any(fnmatchcase(n, pattern) for n in (r["suite"], r["model"], f"{r['suite']}/{r['model']}"))]
    if not reports:
        print(f"No preflight{f' of {pattern!r}' if pattern else ''} in {results}: `snakemake preflight` makes them.")
        return 2
    width = shutil.get_terminal_size((80, 24)).columns
    shown = reports if pattern else [r for r in reports if r["verdict"] != "ok"]
    print("\n\n".join([overview(reports), *(table(r, width, only_trouble=not pattern) for r in shown)]))
    return int(any(r["verdict"] == "fail" for r in reports))
