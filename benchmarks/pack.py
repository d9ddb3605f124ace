"""Local copies: from a mount that answers after 30 ms, of 10,000 small files on a disk, and what verification costs.

The limit on the mount is arithmetic: files × delay / opens in flight. Copies come from `copy_to_local.py` as it is run by hand: packed
(the workflow's way: opened, hashed, judged, packed, quarantine and summary written) and as raw files (read back after writing).
Each is shown as a whole process, interpreter and imports included, and as the copying step in a process that has them: listing the
mount, index and splits read, every file opened, hashed, judged and written, all of it synced to the disk and in place. The limit and
the floor are of the step: a pool of as many threads that opens, reads and hashes the same files and writes nothing.

Every copy goes into a folder that is new. ext4 looks long for a place for a new file where as many were deleted a little while ago, ten
times as long as it takes to copy it; small files are measured in both cases, for who copies again has just deleted the copy before.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench import SCRIPTS, Goal, Run, command, measure, peer, peer_python, report, scratch, verdict
from slow_mount import slow_mount

DELAY = 30.0  # milliseconds an open
FILES, SIZE = 500, 20_000
IN_FLIGHT = 64
SETTINGS = json.dumps({"format": "chat", "features": {"max_chars": 1 << 20}})
RAW, PACKED = "copy_to_local.py, raw files", "copy_to_local.py, packed"
RAW_STEP, PACKED_STEP, FLOOR = "the step: raw files", "the step: packed", "a bare pool of 64, nothing written"
STEPS = {
    PACKED_STEP: """
import json, sys, time
from pathlib import Path
from trainyard.command import thread_limit
thread_limit(1)
import pyarrow.parquet, trainyard.data.chat
from trainyard.data.copy import Limits, LocalCopy
from trainyard.data.storage import read_threads
from trainyard.data.walk import walk
figure, root, out, index, splits, settings = sys.argv[1:]
out = Path(out)
start = time.perf_counter()
walk(Path(root), lambda path: path.endswith(".json"))
copy = LocalCopy(Path(root), index, splits, json.loads(settings), Limits(2, read_threads(root)))
copy.run(out, str(out / "quarantine.csv"), str(out / "summary.json"))
Path(figure).write_text(str(time.perf_counter() - start))
""",
    RAW_STEP: """
import sys, time
from pathlib import Path
from trainyard.data.mirror import mirror
from trainyard.data.storage import read_threads
figure, root, out = sys.argv[1:4]
start = time.perf_counter()
mirror(Path(root), Path(out), [], None, 0, read_threads(root), 1 << 30)
Path(figure).write_text(str(time.perf_counter() - start))
""",
    FLOOR: """
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import xxhash
figure, root = sys.argv[1:3]
def read(path):
    file = os.open(path, os.O_RDONLY)
    xxhash.xxh3_128_digest(os.read(file, 1 << 20))
    os.close(file)
start = time.perf_counter()
with ThreadPoolExecutor(64) as pool:
    list(pool.map(read, [entry.path for entry in os.scandir(root)]))
Path(figure).write_text(str(time.perf_counter() - start))
""",
}
# The command with everything taken out that verifies: hashes of what was read and written, and reading the copy again.
UNVERIFIED = """
import runpy, sys
import xxhash
class Nothing:
    def update(self, data): pass
    def reset(self): pass
    def digest(self): return b""
    def hexdigest(self): return ""
xxhash.xxh3_128 = Nothing
from trainyard.data.half_copy import HalfCopy
HalfCopy._read_back = lambda copy, at, size: None
HalfCopy._is_same = lambda copy: True
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def make_rows(folder: Path, files: int, size: int) -> Path:
    """A folder of JSON files, one chat row each, no two alike."""
    folder.mkdir()
    dice = random.Random(0)
    for i in range(files):
        row = {"prompt": f"plan {i}", "answer": ""}
        row["answer"] = f"{dice.getrandbits(4 * (size - len(json.dumps(row)))):0{size - len(json.dumps(row))}x}"
        (folder / f"{i:05d}.json").write_text(json.dumps(row))
    return folder


def divide(root: Path, work: Path) -> tuple[Path, Path]:
    """Index and splits of a folder, made before anything is measured."""
    index, splits = work / f"{root.name}-index.parquet", work / f"{root.name}-splits.parquet"
    python = [sys.executable]
    command([*python, SCRIPTS / "index_dataset.py", "--root", root, "--settings", SETTINGS, "--output", index])()
    command([*python, SCRIPTS / "split_dataset.py", "--index", index, "--settings", SETTINGS, "--output", splits,
             "--summary", work / "splits.json"])()  # fmt: skip
    return index, splits


def put_aside(out: Path) -> None:
    """Make room for a copy without deleting the one before."""
    if out.exists():
        out.rename(out.with_name(f"{out.name}-{time.monotonic_ns()}"))


def pack(root: Path, divided: tuple[Path, Path], out: Path) -> Callable[[], Run]:
    return command([
        sys.executable, SCRIPTS / "copy_to_local.py", "--root", root, "--index", divided[0], "--splits", divided[1], "--settings", SETTINGS,
        "--output-dir", out, "--quarantine", out / "quarantine.csv", "--summary", out / "summary.json",
    ], flush=out)  # fmt: skip


def step(name: str, root: Path, out: Path, divided: tuple[Path, Path]) -> Callable[[], Run]:
    """What the copying takes in a process that is up: the seconds that it measured itself."""
    figure = divided[0].with_name("seconds")
    run = command([sys.executable, "-c", STEPS[name], figure, root, out, *divided, SETTINGS])

    def case() -> Run:
        run()
        return Run(float(figure.read_text()))

    return case


def raw(source: Path, out: Path, *before: str) -> Callable[[], Run]:
    return command([sys.executable, *before, SCRIPTS / "copy_to_local.py", "--source", source, "--local-root", out], flush=out)


def from_a_mount(folder: Path, rounds: int) -> None:
    python = peer_python("fuse")
    if python is None:
        return
    source, log, out = make_rows(folder / "far", FILES, SIZE), folder / "opens", folder / "near"
    divided = divide(source, folder)
    with slow_mount(python, source, folder / "mount", DELAY, log) as mount:
        cases = {name: step(name, mount, out, divided) for name in STEPS}
        cases |= {
            PACKED: pack(mount, divided, out),
            RAW: raw(mount, out),
            "cp -r": command(["cp", "-r", "--reflink=never", mount, out], flush=out),
        }
        if rclone := peer("rclone"):
            for transfers in ("4", "32"):  # 4 is its default
                cases[f"rclone --transfers {transfers}"] = command(
                    [rclone, "copy", "--config", "/dev/null", "--transfers", transfers, mount, out], flush=out
                )
        opens = {}
        for name in (PACKED, RAW):
            log.write_bytes(b"")
            cases[name]()
            opens[name] = Counter(log.read_text().splitlines())
            put_aside(out)
        results = measure(cases, rounds, lambda name: put_aside(out))
    results["the limit"] = [Run(FILES * DELAY / 1000 / IN_FLIGHT)] * rounds
    goals = [Goal(name, "the limit", at_most=1.6) for name in (PACKED_STEP, RAW_STEP)]
    for name in (PACKED_STEP, PACKED, RAW_STEP, RAW):
        goals += [Goal(name, "cp -r", at_least=30)]
        goals += [Goal(name, "rclone --transfers 32", at_least=1.4)] if rclone else []
    report(f"{FILES} files of {SIZE // 1000} KB from a mount with {DELAY:g} ms an open, {IN_FLIGHT} in flight", results, "the limit", goals)
    for name, counts in opens.items():
        verdict(f"{name}: each file opened once", f"{counts.total()} opens of {len(counts)} files", set(counts.values()) == {1})


def many_small(folder: Path, rounds: int, files: int) -> None:
    source, out = make_rows(folder / "many", files, 1000), folder / "near"
    divided = divide(source, folder)
    # cp leaves its copies in memory: to flush ten thousand files one by one would take it minutes, and no one does. Ours are on the disk.
    cases = {PACKED_STEP: step(PACKED_STEP, source, out, divided), PACKED: pack(source, divided, out), RAW: raw(source, out)}
    cases["cp -r, not flushed"] = command(["cp", "-r", "--reflink=never", source, out])
    goals = [Goal(name, "cp -r, not flushed", at_least=10) for name in (PACKED_STEP, PACKED)]
    results = measure(cases, rounds, lambda name: put_aside(out))
    report(f"{files:,} files of 1 KB on a disk, into a folder that is new", results, "cp -r, not flushed", goals)
    results = measure(cases, rounds, lambda name: shutil.rmtree(out, ignore_errors=True))
    report(f"{files:,} files of 1 KB on a disk, where the copy before was deleted", results, "cp -r, not flushed", goals)


def verification(folder: Path, rounds: int, megabytes: int) -> None:
    source, out = folder / "large", folder / "near"
    source.mkdir()
    for i in range(megabytes // 8):
        (source / f"{i:03d}.bin").write_bytes(random.Random(i).randbytes(8 << 20))
    cases = {
        "verified": raw(source, out),
        "without": raw(source, out, "-c", UNVERIFIED),
        "cp -r": command(["cp", "-r", "--reflink=never", source, out], flush=out),
    }
    results = measure(cases, rounds, lambda name: shutil.rmtree(out, ignore_errors=True))
    report(f"raw copy of {megabytes} MB in files of 8 MB, with and without verification", results, "without",
           [Goal("verified", "without", at_most=1.1)])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000, help="small files on a disk (default %(default)s)")
    parser.add_argument("--megabytes", type=int, default=256, help="for the price of verification (default %(default)s)")
    parser.add_argument("--only", choices=("mount", "small", "verification"), help="one of the three")
    args = parser.parse_args()
    with scratch() as folder:
        if args.only in (None, "mount"):
            from_a_mount(folder, args.rounds)
        if args.only in (None, "small"):
            many_small(folder, args.rounds, args.files)
        if args.only in (None, "verification"):
            verification(folder, args.rounds, args.megabytes)


if __name__ == "__main__":
    main()
