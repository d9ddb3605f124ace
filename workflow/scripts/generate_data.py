#!/usr/bin/env python
"""Generate a demo dataset in the real dataset's own layout.

The manifest is written last: it names the generator, its options and how many files and bytes there are.
"""

import argparse
import importlib
import os
import shutil
from pathlib import Path

from trainyard.command import run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help='JSON or @file: {"generator": …, "generate": {…}, "seed": 0}')
    parser.add_argument("--output", required=True, help="manifest.json; the data go into the folder `files` beside it")
    args = parser.parse_args()
    thread_limit(1)

    from trainyard.config.validation import read_settings
    from trainyard.data.files import write_json

    settings = read_settings(args.settings)
    name = settings["generator"]
    try:
        generate = importlib.import_module(f"trainyard.data.generate.{name}").generate
    except ModuleNotFoundError as error:
        if error.name != f"trainyard.data.generate.{name}":
            raise
        folder = Path(importlib.import_module("trainyard.data.generate").__path__[0])
        known = ", ".join(sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__"))
        raise ValueError(f"no generator is called '{name}'; known: {known}") from None
    manifest = Path(args.output)
    target = manifest.parent / "files"
    work = manifest.parent / f".files.{os.getpid()}"
    work.mkdir(parents=True)
    try:
        generate(work, seed=settings.get("seed", 0), **settings.get("generate", {}))
        if target.exists():
            shutil.rmtree(target)
        os.replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    files = [p for p in target.rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in files)
    write_json(
        manifest,
        {"generator": name, "options": settings.get("generate", {}), "seed": settings.get("seed", 0), "files": len(files), "bytes": size},
    )
    print(f"{name}: {len(files)} files, {size / 1e6:.1f} MB in {target}")


if __name__ == "__main__":
    run_command(main)
