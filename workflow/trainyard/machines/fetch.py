"""The way home: results, logs and benchmarks from the storage into this folder, where a local run would have left them."""

import os
from pathlib import Path
from typing import Any

from trainyard.data.files import replacing
from trainyard.machines.s3 import address, client, listing

FOLDERS = ("results/", "logs/", "benchmarks/")
STAY = (".safetensors", ".jsonl")  # of packs: copies of data that are here already
OWN = ("comparison.csv", "comparison.json")  # made here, of the runs of this call


def fetch_results(store: str, home: Path) -> dict[str, Any]:
    """Bring what is new; returns how many objects there are, how many were new, and bytes. Packs stay.

    Raises ValueError for an address that is none, OSError or botocore's errors when the storage cannot be read.
    """
    bucket, prefix = address(store)
    s3 = client(retries=10)
    found = [o for folder in FOLDERS for o in listing(s3, bucket, prefix + folder) if not _stays(o["Key"].removeprefix(prefix))]
    new = 0
    for entry in found:
        target = home / entry["Key"].removeprefix(prefix)
        if ".." in target.parts or entry["Key"].endswith("/"):
            continue
        when = entry["LastModified"].timestamp()
        if target.is_file() and (target.stat().st_size, target.stat().st_mtime) == (entry["Size"], when):
            continue
        with replacing(target) as temporary:
            s3.download_file(bucket, entry["Key"], str(temporary))
        os.utime(target, (when, when))
        new += 1
    return {"store": store, "objects": len(found), "new": new, "bytes": sum(e["Size"] for e in found)}


def _stays(name: str) -> bool:
    parts = name.split("/")
    if parts[-1] in OWN and len(parts) == 3:
        return True
    return len(parts) > 2 and parts[2] == "packs" and name.endswith(STAY)
