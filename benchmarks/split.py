"""Split of 500,000 rows of JSONL (486 MB) into six exact shards and an eval part, beside cp, GNU split, a json script and polars.

`cp` is the limit worth naming: reading and writing every byte once. GNU split deals rows round robin: no eval part, nothing
shuffled. The json script is what people write first: json.loads, MD5 of the id, json.dumps.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench import SCRIPTS, Goal, command, measure, peer_python, report, scratch, verdict, warm

SHARDS, EVAL = 6, 0.02
JSON_SCRIPT = """
import hashlib, json, sys
outs = [open(f"{sys.argv[2]}/{s}.jsonl", "w") for s in [*range(6), "eval"]]
for line in open(sys.argv[1]):
    row = json.loads(line)
    digest = int(hashlib.md5(row["id"].encode()).hexdigest(), 16)
    outs[6 if digest % 50 == 0 else digest // 50 % 6].write(json.dumps(row) + "\\n")
"""
POLARS = """
import sys, polars as pl
rows = pl.scan_ndjson(sys.argv[1], row_index_name="#")
parts = [rows.filter(pl.col("#") % 50 == 0).drop("#").sink_ndjson(f"{sys.argv[2]}/eval.jsonl", lazy=True)]
parts += [
    rows.filter((pl.col("#") % 50 != 0) & (pl.col("#") % 6 == s)).drop("#").sink_ndjson(f"{sys.argv[2]}/{s}.jsonl", lazy=True)
    for s in range(6)
]
pl.collect_all(parts)
"""


def make_rows(path: Path, count: int) -> None:
    """Rows of about 1 kB, as a dataset of house plans has them."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(2000)]
    with open(path, "w", buffering=1 << 22) as file:
        for i in range(count):
            rooms = [{"n": draw.choice(words), "w": draw.randint(2, 9), "h": draw.randint(2, 9)} for _ in range(8)]
            output = {"rooms": rooms, "plan": " ".join(draw.choices(words, k=60))}
            row = {"id": f"hb-{i:07d}", "input": " ".join(draw.choices(words, k=40)), "output": output}
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def peak_of_all(argv: list) -> int:
    """Most bytes that a command and its helpers hold at once, looked at every few milliseconds, which costs time: a run for itself.

    All that is resident of the command, and of its helpers what they do not share with it. Linux; elsewhere there are none.
    """
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""})
    most = 0
    while process.poll() is None:
        try:
            helpers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            most = max(most, _held(process.pid, "Rss") + sum(_held(pid, "Private_") for pid in helpers))
        except OSError:  # one has just ended
            pass
        time.sleep(0.002)
    return most


def _held(pid: int | str, kind: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=3, help="of the json script (default %(default)s)")
    parser.add_argument("--data", type=Path, help="a JSONL file to use instead of a generated one")
    parser.add_argument("--quick", action="store_true", help="without the json script and polars (half a minute a round)")
    args = parser.parse_args()
    with scratch() as folder:
        data, out = args.data or folder / "rows.jsonl", folder / "out"
        if args.data is None:
            make_rows(data, args.rows)
        rows = data.read_bytes().count(b"\n")

        def prepare(_: str) -> None:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()

        def split(fraction: float) -> list:
            script = [sys.executable, SCRIPTS / "split_dataset.py", "--source", data, "--output", out]
            return [*script, "--shards", str(SHARDS), "--eval-fraction", str(fraction)]

        warm(data)
        cases = {
            "cp": command(["cp", "--reflink=never", data, out / "copy"], flush=out),
            "split -n r/6": command(["split", "-n", f"r/{SHARDS}", data, out / "part"], flush=out),
            "split_dataset.py": command(split(EVAL), flush=out),
        }
        results = measure(cases, args.rounds, prepare)
        goals = [Goal("split_dataset.py", "cp", at_most=4), Goal("split_dataset.py", "split -n r/6", at_least=1)]
        report(f"{rows:,} rows, {data.stat().st_size / 1e6:.0f} MB", results, "cp", goals)
        modules = "split_lines, trainyard.data.row_writer, trainyard.data.shards, trainyard.data.work_folder, trainyard.data.files"
        imports = command([sys.executable, "-c", f"import trainyard.data.{modules}"])().peak
        prepare("")
        peak = max([r.peak for r in results["split_dataset.py"]] + [peak_of_all(split(EVAL))] * (sys.platform == "linux"))
        limit = 64e6 + 16 * rows
        words = f"{(peak - imports) / 1e6:.0f} MB of {peak / 1e6:.0f}"
        verdict(f"memory of all processes above imports ≤ {limit / 1e6:.0f} MB", words, peak - imports <= limit)
        prepare("")
        command(split(0))()
        sizes = [f["rows"] for f in json.loads((out / "splits.json").read_text())["files"]]
        exact = [-(-(i + 1) * rows // SHARDS) + -i * rows // SHARDS for i in range(SHARDS)]
        verdict("sizes without an eval part are exact", "/".join(f"{n:,}" for n in sizes), sizes == exact)
        if not args.quick:
            slow = {"split_dataset.py": cases["split_dataset.py"]}
            slow["json script"] = command([sys.executable, "-c", JSON_SCRIPT, data, out], flush=out)
            results = measure(slow, args.slow_rounds, prepare)
            report("beside the json script", results, "split_dataset.py", [Goal("split_dataset.py", "json script", at_least=12)])
            if python := peer_python("polars"):
                slow = {"split_dataset.py": cases["split_dataset.py"]}
                slow["polars, lazy"] = command([python, "-c", POLARS, data, out], flush=out)
                report("beside polars", measure(slow, 1, prepare), "split_dataset.py")


if __name__ == "__main__":
    main()
