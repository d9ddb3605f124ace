"""Peak memory of index, split and local copy at two sizes: what a sample more costs, in bytes, and that data themselves cost nothing.

Rows of JSONL of a kilobyte each with a group from a field, and files in folders; whole processes, as the workflow starts them.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from bench import SCRIPTS, command, scratch, verdict

ROWS = {"suite": "s", "dataset": "d", "format": "chat", "group": {"field": "house"}, "shards": 6, "validation": 0.01, "test": 0.01}
FILES = {"suite": "s", "dataset": "d", "format": "audio", "group": {"parent": 1}}
TEXT = "a house of four rooms, each of which can be reached, on a site of eight by twelve metres, within its budget; " * 9
LIMITS = {"index": 240, "split": 64, "copy": 128}  # bytes a sample


def write_rows(folder: Path, count: int) -> Path:
    """Rows of about 1,000 bytes, each different from the others; three of a house."""
    folder.mkdir()
    with open(folder / "rows.jsonl", "w") as file:
        for i in range(count):
            answer = TEXT[i % 97 :] + str(i)
            file.write(json.dumps({"prompt": f"question {i}", "answer": answer, "house": f"house {i // 3}"}) + "\n")
    return folder


def write_files(folder: Path, count: int) -> Path:
    """Names are enough for an index: a file of one byte each, a hundred to a folder."""
    for start in range(0, count, 100):
        (folder / f"singer{start // 100:05d}").mkdir(parents=True)
        for i in range(start, min(start + 100, count)):
            (folder / f"singer{start // 100:05d}" / f"take_{i:07d}.wav").write_bytes(b"x")
    return folder


def peaks(root: Path, keys: dict, work: Path, copy: bool) -> dict[str, int]:
    """Peak bytes of each command on a root."""
    work.mkdir()
    settings, index, splits = json.dumps(keys), work / "index.parquet", work / "splits.parquet"
    scripts = {
        "index": ["index_dataset.py", "--root", root, "--output", index],
        "split": ["split_dataset.py", "--index", index, "--output", splits, "--summary", work / "splits.json"],
        "copy": ["copy_to_local.py", "--root", root, "--index", index, "--splits", splits, "--output-dir", work / "packs"]
        + ["--quarantine", work / "quarantine.csv", "--summary", work / "summary.json", "--workers", "1"],
    }
    if not copy:
        del scripts["copy"]
    out = {}
    for name, (script, *words) in scripts.items():
        out[name] = command([sys.executable, SCRIPTS / script, *words, "--settings", settings])().peak
    shutil.rmtree(work)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=50_000, help="samples (default %(default)s)")
    parser.add_argument("--many", type=int, default=500_000, help="samples (default %(default)s)")
    args = parser.parse_args()
    with scratch() as folder:
        for what, write, keys, copy in (("rows", write_rows, ROWS, True), ("files", write_files, FILES, False)):
            found = []
            for count in (args.few, args.many):
                root = write(folder / f"{what}-{count}", count)
                found.append(peaks(root, keys, folder / "work", copy))
                shutil.rmtree(root)
            few, many = found
            for name, limit in LIMITS.items():
                if name not in few:
                    continue
                each = (many[name] - few[name]) / (args.many - args.few)
                words = f"{each:.0f} B: {few[name] / 1e6:.0f} MB at {args.few:,}, {many[name] / 1e6:.0f} MB at {args.many:,}"
                verdict(f"{name} of {what} in ≤ {limit} B a sample more", words, each <= limit)


if __name__ == "__main__":
    main()
