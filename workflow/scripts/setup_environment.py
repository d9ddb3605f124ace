#!/usr/bin/env python
"""Last step of `make setup`: settle the audio path and say what was found.

torchaudio is installed where its wheels work: where torch has CUDA, on macOS and on Arm. PyPI's x86-64 Linux wheels link
CUDA; beside a CPU torch they fail to import and take transformers down with them, so there it is left out.
soundfile decodes everywhere, and the mel is the same as torchaudio's, which a test holds where torchaudio is present.
"""

import argparse
import importlib.util
import platform
import subprocess
import sys

from trainyard.command import run_command


def wants_torchaudio() -> bool:
    import torch

    return bool(torch.version.cuda) or sys.platform == "darwin" or platform.machine() in ("aarch64", "arm64")


def imports_cleanly(module: str) -> bool:
    """Whether a module imports in a fresh interpreter: a broken wheel must not break this one."""
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say what is there; install and remove nothing")
    args = parser.parse_args()
    uv = [sys.executable, "-m", "uv", "pip"]
    if wants_torchaudio() and importlib.util.find_spec("torchaudio") is None and not args.check:
        # --no-deps: it must fit the pinned torch, not replace it.
        subprocess.run([*uv, "install", "--quiet", "--python", sys.executable, "--no-deps", "torchaudio"], check=False)
    there = importlib.util.find_spec("torchaudio") is not None
    if there and not imports_cleanly("torchaudio"):
        if not args.check:
            subprocess.run([*uv, "uninstall", "--quiet", "--python", sys.executable, "torchaudio"], check=False)
        there = False
        print("torchaudio does not import beside this torch and was left out")
    import soundfile
    import torch

    device = "CUDA " + str(torch.version.cuda) if torch.cuda.is_available() else "MPS" if torch.backends.mps.is_available() else "CPU"
    decoding = f"soundfile {soundfile.__version__} with libsndfile {soundfile.__libsndfile_version__}"
    print(f"python {platform.python_version()}, torch {torch.__version__} on {device}")
    print(f"audio path: {decoding}, mel by scipy; torchaudio is {'there for transforms of your own' if there else 'not installed'}")
    if not imports_cleanly("transformers, peft, symusic, snakemake"):
        raise RuntimeError("transformers, peft, symusic and snakemake do not import together; remove .venv and run make setup again")


if __name__ == "__main__":
    run_command(main)
