"""The real workflow at toy size, called in a process of its own; and who serves the store of a folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[3]
TOY = ("suites=aimedres", "only=als,train_baseline_models", "folds=2", "subset_size=200")
# What must be the same bytes wherever it was made.
SAME = (
    "runs/als-fold1/model.safetensors", "runs/als-fold2/model.safetensors", "runs/als-fold1/predictions.parquet",
    "runs/als-fold1/history.csv", "data/als/splits.parquet",
)  # fmt: skip


def command(folder: Path, *args: str, home: Path = HOME, epochs: int = 3) -> list[str]:
    call = [sys.executable, "-m", "snakemake", "-s", str(home / "Snakefile")]
    where = [] if folder == home else ["-d", str(folder)]  # jobs elsewhere would be told it too
    return [*call, *where, "--workflow-profile", str(home / "profiles" / "default"), "--config", *TOY, f"epochs={epochs}", *args]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SNAKEMAKE_STORAGE", "TRAINYARD_"))}
    return {**kept, "NO_COLOR": "1", "OMP_NUM_THREADS": "1", **more}


def call(folder: Path, *args: str, keys: dict[str, str] | None = None, **more) -> subprocess.CompletedProcess:
    """`keys` go into the environment."""
    told = environment(**(keys or {}))
    return subprocess.run(command(folder, *args, **more), cwd=folder, capture_output=True, text=True, timeout=300, env=told)


def project(folder: Path) -> Path:
    """A copy of what a clone holds, as jobs elsewhere get it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "rules", "workflow", "config", "profiles", "envs", "examples", "requirements.lock", ".gitignore"):
        source = HOME / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    subprocess.run(["git", "init", "-q", str(folder)], check=True, timeout=60)
    for profile in ("ec2", "codespace"):
        (folder / profile).symlink_to(f"profiles/{profile}")
    return folder


def served(folder: Path) -> dict[int, str]:
    """Processes that serve this folder's store, with their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
        except OSError:
            continue
        if str(folder / ".trainyard/store") in words:
            found[int(process.name)] = words
    return found
