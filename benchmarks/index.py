"""Index of a folder on a mount where every question costs 20 ms: many directory reads in flight, and no sample file is opened.

The limit beside it is arithmetic: requests × delay, one after another. `find` and os.walk with sizes are what people use to look.
What it takes in memory: memory.py.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from bench import SCRIPTS, Goal, command, measure, peer_python, report, scratch, verdict
from slow_mount import slow_mount

DELAY = 20.0  # milliseconds a request
WALK = "import os, sys\nfor top, _, names in os.walk(sys.argv[1]):\n    for n in names:\n        os.lstat(os.path.join(top, n))"
AUDIO = {"format": "audio", "group": {"parent": 1}}


def make_tree(root: Path, folders: int, files: int) -> int:
    for f in range(folders):
        (root / f"singer{f:03d}").mkdir(parents=True)
        for i in range(files):
            (root / f"singer{f:03d}" / f"take_{i:05d}.wav").write_bytes(b"x")
    return folders * files


def index(root: Path, settings: dict, output: Path):
    return command([sys.executable, SCRIPTS / "index_dataset.py", "--root", root, "--settings", json.dumps(settings), "--output", output])


def on_a_mount(folder: Path, rounds: int) -> None:
    python = peer_python("fuse")
    if python is None:
        return
    folders, files = 60, 5
    count = make_tree(folder / "source", folders, files)
    log = folder / "requests"
    with slow_mount(python, folder / "source", folder / "mount", DELAY, log, everything=True) as mount:
        cases = {
            "index_dataset.py": index(mount, AUDIO, folder / "index.parquet"),
            "find -size": command(["find", mount, "-name", "*.wav", "-size", "+0"]),
            "os.walk, os.lstat": command([sys.executable, "-c", WALK, mount]),
        }
        log.write_bytes(b"")
        cases["index_dataset.py"]()
        asked = Counter(line.split(" ", 1)[0] for line in log.read_text().splitlines())
        results = measure(cases, rounds)
    serial = sum(asked.values()) * DELAY / 1000
    report(f"{count} files in {folders} folders, {DELAY:g} ms a request, one at a time {serial:.1f} s", results, "index_dataset.py",
           [Goal("index_dataset.py", "find -size", at_least=3), Goal("index_dataset.py", "os.walk, os.lstat", at_least=4)])  # fmt: skip
    opens = asked["open"]
    verdict("files opened", f"{opens} of {count} ({dict(asked)})", opens == 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with scratch() as folder:
        on_a_mount(folder, args.rounds)


if __name__ == "__main__":
    main()
