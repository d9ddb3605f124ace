#!/usr/bin/env python
"""Write what is made from code: config/README.md, config/schema.json, envs/*.yaml. --check only compares."""

import argparse
from pathlib import Path

from trainyard.command import run_command

HOME = Path(__file__).resolve().parents[2]
# What each conda environment needs of the lock; their own dependencies follow.
LIGHT = (
    "jinja2", "numpy", "pandas", "peft", "pulp", "pyarrow", "pydantic", "pyyaml", "safetensors", "scikit-learn",
    "snakemake", "tokenizers", "xxhash",
)  # fmt: skip
TRAIN = (*LIGHT, "pretty-midi", "soundfile", "soxr", "symusic", "torch", "transformers")


def environment(name: str, packages: tuple[str, ...], pins: dict[str, str]) -> str:
    lines = [
        f"# Made from requirements.lock by `make docs`: the {name} rules. Only needed with --software-deployment-method conda.",
        "channels:", "  - conda-forge", "  - nodefaults", "dependencies:", "  - python=3.12", "  - pip", "  - pip:",
    ]  # fmt: skip
    return "\n".join([*lines, *(f"      - {p}=={pins[p]}" for p in packages)]) + "\n"


def generated() -> dict[Path, str]:
    """Every generated file and its text."""
    from trainyard.config.document import readme, schema

    lock = (HOME / "requirements.lock").read_text(encoding="utf-8")
    pairs = (line.split(";")[0].strip().split("==") for line in lock.splitlines() if "==" in line and not line.startswith("#"))
    pins = {pair[0].lower(): pair[1] for pair in pairs}
    light = tuple(p for p in LIGHT if p != "peft")
    return {
        HOME / "config" / "README.md": readme(),
        HOME / "config" / "schema.json": schema(),
        HOME / "envs" / "light.yaml": environment("light", light, pins),
        HOME / "envs" / "train.yaml": environment("training", TRAIN, pins),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when a file differs")
    args = parser.parse_args()
    stale = [p for p, text in generated().items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{'differs' if args.check else 'writing'}: {path.relative_to(HOME)}")
        if not args.check:
            path.write_text(generated()[path], encoding="utf-8")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    run_command(main)
