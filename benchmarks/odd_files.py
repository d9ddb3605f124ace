#!/usr/bin/env python
"""Damaged files through the real commands: each is accepted or refused with a reason, and nothing crashes or hangs.

Files that generators and writers made, and those below --real, are damaged at random (bits flipped, cut, length fields
changed, parts swapped, inserted, zeroed, two files spliced), given odd names, and taken through index_dataset.py,
split_dataset.py and copy_to_local.py:
  python benchmarks/odd_files.py --files 1000 --real ~/recordings --real ~/midi
"""

import argparse
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "workflow"))

from odd_seeds import damaged, made, real, sound  # noqa: E402
from trainyard.data.names import to_text  # noqa: E402
from trainyard.data.pack import Pack  # noqa: E402

SHARES = {"audio": 0.4, "midi": 0.35, "video": 0.1, "chat": 0.1, "tabular": 0.05}
SETTINGS = {
    "audio": {"features": {"sample_rate": 8000, "seconds": 0.5, "n_fft": 256, "hop": 128, "mels": 16}},
    "midi": {"features": {"parse_seconds": 5}},
    "video": {"features": {"cameras": 1, "frames": 2, "size": 16}},
    "chat": {},
    "tabular": {"label": {"column": "status"}},
}
LIMIT = 300  # seconds; a command that takes longer hangs
# What no person can act on, or a bug of ours: a reason that looks like this counts as a fault.
UNCLEAR = re.compile(r"Traceback|object at 0x|its reader failed|^.{0,7}$|Errno|internal error", re.IGNORECASE | re.DOTALL)
ODD_NAMES = (
    " a space",
    "'quote",
    '"double',
    "new\nline",
    "tab\t",
    "%s",
    "$HOME",
    "ünï",
    "\udcff\udcfe",
    "-rf",
    "#1",
    "a;b",
    "日本",
    "*?[x]",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="damaged files in all (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed damages them otherwise (default %(default)s)")
    parser.add_argument("--formats", nargs="+", choices=list(SHARES), default=list(SHARES), help="default: all")
    parser.add_argument("--real", action="append", default=[], type=Path, help="folder of real files to damage too (may be repeated)")
    parser.add_argument("--keep", type=Path, help="keep files, packs and lists here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = args.keep or Path(scratch)
        whole = sum(SHARES[f] for f in args.formats)
        results = []
        for kind in args.formats:
            count = max(1, round(args.files * SHARES[kind] / whole))
            rng = random.Random(f"{args.seed}:{kind}")
            seeds = made(kind) + real(kind, args.real)
            if kind == "tabular":  # a table is a dataset of its own
                results += [Result.of(kind, place / f"table-{i}", [damaged(rng, seeds)], []) for i in range(count)]
            else:
                results.append(Result.of(kind, place / kind, [damaged(rng, seeds) for _ in range(count)], sound(kind)))
    return report(results)


class Result:
    """What became of one dataset of damaged files."""

    def __init__(self, kind: str):
        self.kind, self.files, self.accepted, self.seconds = kind, 0, 0, 0.0
        self.reasons: list[str] = []
        self.faults: list[str] = []

    @classmethod
    def of(cls, kind: str, folder: Path, damaged_files: list[bytes], sound_files: list[bytes]) -> "Result":
        result, root = cls(kind), folder / "data"
        root.mkdir(parents=True)
        ending = {"audio": ".wav", "midi": ".mid", "video": ".npz", "chat": ".jsonl", "tabular": ".csv"}[kind]
        names = []
        for i, data in enumerate(damaged_files):
            name = f"{i:04d}{ODD_NAMES[i % len(ODD_NAMES)] if i % 3 == 0 else ''}{ending}"
            (root / name).write_bytes(data)
            names.append(to_text(name))
        for i, data in enumerate(sound_files):
            (root / f"sound-{i:02d}{ending}").write_bytes(data)
        result.files = len(names)
        result._run(folder, root, names)
        return result

    def _run(self, folder: Path, root: Path, names: list[str]) -> None:
        settings = json.dumps({"format": self.kind, **SETTINGS[self.kind]})
        written = ("index.parquet", "splits.parquet", "splits.json", "packs", "quarantine.csv", "summary.json")
        out = {name: str(folder / name) for name in written}
        index, splits = out["index.parquet"], out["splits.parquet"]
        started = time.monotonic()
        for command in (
            ["index_dataset.py", "--root", str(root), "--output", index],
            ["split_dataset.py", "--index", index, "--output", splits, "--summary", out["splits.json"]],
            ["copy_to_local.py", "--root", str(root), "--index", index, "--splits", splits, "--output-dir", out["packs"]]
            + ["--quarantine", out["quarantine.csv"], "--summary", out["summary.json"]],
        ):
            said = run([*command, "--settings", settings])
            if isinstance(said, str):
                self._refused_whole(command[0], said)
                break
        else:
            self._check(Path(out["packs"]), Path(out["quarantine.csv"]), names)
        self.seconds = time.monotonic() - started

    def _refused_whole(self, command: str, said: str) -> None:
        """A table that cannot be used stops its command with one clear line; for the other formats that is a fault."""
        if self.kind == "tabular" and re.fullmatch(r"error: [^\n]{10,1500}\n?", said):
            self.reasons.append(said.partition(": ")[2].strip())
        else:
            self.faults.append(f"{command}: {said[-1500:]}")

    def _check(self, packs: Path, quarantine: Path, names: list[str]) -> None:
        with open(quarantine, encoding="utf-8", newline="") as file:
            refused = {row["path"]: row["reason"] for row in csv.DictReader(file)}
        kept: set[str] = set()
        for path in sorted(packs.glob("*.safetensors")):
            pack = Pack(path)
            kept |= set(pack.texts("id"))
            for name in pack.names():
                values = np.asarray(pack.values(name))
                # NaN in a table's numbers is a missing cell.
                if values.dtype.kind == "f" and (np.isinf(values) if name == "numeric" else ~np.isfinite(values)).any():
                    self.faults.append(f"{path.name}: field '{name}' holds values that are not finite")
        for path in sorted(packs.glob("*.jsonl")):
            kept |= {json.loads(line)["id"] for line in path.read_bytes().splitlines()}
        rows = {name.rpartition("#")[0] or name for name in (*kept, *refused)} if self.kind in ("chat", "tabular") else {*kept, *refused}
        written = {name.encode("utf-8", "backslashreplace").decode() for name in names}
        for name in sorted(written - rows - {r.replace("\r", "\n") for r in rows}):
            self.faults.append(f"'{name}' is neither packed nor refused")
        both = kept & set(refused)
        self.faults += [f"'{name}' is packed and refused" for name in sorted(both)]
        mine = [reason for path, reason in refused.items() if not path.startswith("sound-")]
        self.reasons += mine
        self.accepted += sum(not k.startswith("sound-") for k in kept) if self.kind not in ("chat", "tabular") else len(kept)
        self.faults += [f"reason that nobody can act on: {reason}" for reason in mine if UNCLEAR.search(reason)]


def run(command: list[str]) -> str | None:
    """None when a command ends well; else what it said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "workflow" / "scripts" / command[0]), *command[1:]],
            capture_output=True, timeout=LIMIT, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"did not end within {LIMIT} s"
    said = done.stderr.decode(errors="replace")
    if done.returncode in (0, 1) and "Traceback" not in said:
        return None if done.returncode == 0 else said
    return f"exit {done.returncode}: {said}"


def report(results: list[Result]) -> int:
    print(f"{'format':8} {'files':>6} {'accepted':>9} {'refused':>8} {'crashed or hung parsers':>24} {'seconds':>8}")
    for kind in dict.fromkeys(r.kind for r in results):
        some = [r for r in results if r.kind == kind]
        reasons = [reason for r in some for reason in r.reasons]
        died = sum(bool(re.search("parser (crashed|took|did not|ended)", reason)) for reason in reasons)
        unit = " rows" if kind in ("chat", "tabular") else ""
        print(
            f"{kind:8} {sum(r.files for r in some):6} {sum(r.accepted for r in some):9} {len(reasons):8} {died:24} "
            f"{sum(r.seconds for r in some):8.1f}{unit}"
        )
        for reason, count in Counter(re.sub(r"\d+", "N", reason.split(": ")[0])[:90] for reason in reasons).most_common(6):
            print(f"           {count:5} {reason!r}")
    faults = [f"{r.kind}: {fault}" for r in results for fault in r.faults]
    for fault in faults[:20]:
        print(f"FAULT {fault}")
    verdict = f"{len(faults)} faults" if faults else "every one accepted or refused with a reason, no command crashed"
    print(f"{sum(r.files for r in results)} damaged files: {verdict}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
