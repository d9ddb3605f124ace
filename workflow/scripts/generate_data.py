#!/usr/bin/env python
"""Generate a demo dataset in the real dataset's own layout.

The manifest is written last: it names the generator, its options and how many files and bytes there are.
"""

import argparse
import importlib
import inspect
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from trainyard.command import not_empty, run_command, thread_limit


def find_generator(name: str) -> Callable[..., None]:
    """The generator of that name. Raises ValueError, with those that there are."""
    folder = Path(importlib.import_module("trainyard.data.generate").__path__[0])
    known = sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__")
    if name not in known:
        raise ValueError(f"no generator is called '{name}'; known: {', '.join(known)}")
    return importlib.import_module(f"trainyard.data.generate.{name}").generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help='JSON or @file: {"generator": …, "generate": {…}, "seed": 0}')
    parser.add_argument("--output", type=not_empty, required=True, help="manifest.json; the folder `files` beside it is made anew")
    args = parser.parse_args()
    thread_limit(1)

    from trainyard.config.validation import read_settings
    from trainyard.data.files import write_json

    settings = read_settings(args.settings, ("generator",))
    name, options = settings["generator"], settings.get("generate", {})
    generate = find_generator(name)
    try:
        inspect.signature(generate).bind(Path(), seed=0, **options)
    except TypeError as error:
        known = [p for p in inspect.signature(generate).parameters if p not in ("folder", "seed")]
        raise ValueError(f"generate: {error}; known options of {name}: {', '.join(known)}") from None
    manifest = Path(args.output)
    target = manifest.parent / "files"
    work = manifest.parent / f".files.{os.getpid()}"
    work.mkdir(parents=True)
    try:
        generate(work, seed=settings.get("seed", 0), **options)
        if target.exists():
            shutil.rmtree(target)
        os.replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    files = [p for p in target.rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in files)
    write_json(
        manifest,
        {"generator": name, "options": options, "seed": settings.get("seed", 0), "files": len(files), "bytes": size},
    )
    print(f"{name}: {len(files)} files, {size / 1e6:.1f} MB in {target}")


if __name__ == "__main__":
    run_command(main)
