"""What the doctor looks at: a function each, yielding findings."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from snakemake_logger_plugin_trainyard.words import count

from trainyard.host.gpus import torch_cuda, usable_gpus
from trainyard.host.recommend import recommend
from trainyard.host.resources import memory, usable_cores
from trainyard.host.slots import holders_of

Level = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    level: Level
    name: str
    text: str


def examine(results: Path, data: list[Path]) -> Iterator[Finding]:
    """Everything looked at, in the order shown. A look that fails is itself a finding."""
    looks: list[Callable[[], Iterator[Finding]]] = [
        look_python,
        look_packages,
        look_decoders,
        look_torchaudio,
        look_cores,
        look_memory,
        look_gpu,
        look_parallel,
    ]
    looks += [lambda: look_folder("results", results), *(lambda path=path: look_folder("data", path) for path in data), look_workflow]
    for look in looks:
        try:
            yield from look()
        except Exception as error:
            name = getattr(look, "__name__", "folder").removeprefix("look_").strip("<>")
            yield Finding("note", name, f"could not be looked at: {type(error).__name__}: {error}")


def look_python() -> Iterator[Finding]:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield Finding("ok" if good else "bad", "python", f"{version} at {sys.executable}" if good else f"{version}: 3.11 or newer is needed")
    yield Finding("ok", "system", f"{platform.system()} {platform.release()} on {platform.machine()}")


def find_lock(home: Path | None = None) -> Path | None:
    """requirements.lock of the repository this package is installed from, or of the working folder."""
    homes = [home] if home else [Path(__file__).resolve().parents[3], Path.cwd()]
    return next((h / "requirements.lock" for h in homes if (h / "requirements.lock").exists()), None)


def read_lock(path: Path) -> dict[str, str]:
    """Pinned versions by normalised name, of the lines that hold for this machine."""
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*(.*?))?\s*\\?$", line)
        if match and (not match[3] or _holds(match[3])):
            pins[_normal(match[1])] = match[2]
    return pins


def _holds(marker: str) -> bool:
    try:
        from packaging.markers import Marker

        return Marker(marker).evaluate()
    except Exception:
        return False


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def look_packages() -> Iterator[Finding]:
    lock = find_lock()
    if lock is None:
        yield Finding("note", "packages", "no requirements.lock here: versions cannot be compared")
        return
    pins = read_lock(lock)
    installed = {_normal(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]}
    missing = sorted(name for name in pins if name not in installed)
    # torch's local part (+cpu, +cu130) says where it came from, not which version it is.
    other = sorted(n for n in pins if n in installed and installed[n].partition("+")[0] != pins[n].partition("+")[0])
    if not missing and not other:
        yield Finding("ok", "packages", f"{len(pins)} as in {lock.name}")
    if missing:
        needed = {_normal(re.split(r"[^A-Za-z0-9._-]", r)[0]) for r in metadata.requires("trainyard") or [] if "extra ==" not in r}
        level: Level = "bad" if needed & set(missing) else "note"  # else tools for developers, or what no model here needs
        yield Finding(level, "packages", f"missing: {', '.join(missing[:8])}{' …' if len(missing) > 8 else ''}; run `make setup`")
    if other:
        told = ", ".join(f"{n} {installed[n]} (lock: {pins[n]})" for n in other[:5])
        yield Finding("note", "packages", f"not as locked: {told}{' …' if len(other) > 5 else ''}; `make setup` settles it")


def look_decoders() -> Iterator[Finding]:
    """Each decoder tried on a small file made here, as preflight does."""
    from trainyard.train.decoders import CONTAINERS, check_decoders

    for check in check_decoders([*CONTAINERS, ".mid", ".npz"]):
        level: Level = "ok" if check.verdict == "ok" else "note" if check.verdict == "warn" else "bad"
        yield Finding(level, check.check, f"{check.value}{'; ' + check.advice if check.advice else ''}")


def look_torchaudio() -> Iterator[Finding]:
    if util.find_spec("torchaudio") is None:
        yield Finding("ok", "torchaudio", "not installed, and not needed: mel is made by scipy")
        return
    # In another interpreter: a wheel that does not fit breaks the one that imports it.
    done = subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, text=True, timeout=120)
    if done.returncode:
        text = "is installed but does not import, and takes transformers with it: .venv/bin/uv pip uninstall torchaudio"
        yield Finding("bad", "torchaudio", text)
    else:
        yield Finding("ok", "torchaudio", f"{metadata.version('torchaudio')} is there for your own transforms")


def look_cores() -> Iterator[Finding]:
    cores, there = usable_cores(), os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    text = f"{cores:g} usable" + (f" of {there}" if cores < there else "") + f", load {load:.1f}"
    busy = load > 1.5 * max(cores, 1)
    yield Finding("note" if busy else "ok", "cores", text + (": more work than cores, everything takes longer" if busy else ""))
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads and threads.isdigit() and int(threads) > cores:
        yield Finding(
            "note", "threads", f"OMP_NUM_THREADS={threads} is more than there are cores: unset it (jobs get theirs from Snakemake)"
        )


def look_memory() -> Iterator[Finding]:
    import psutil

    there = memory()
    tight = there.free < 2000
    text = f"{there.free / 1024:.1f} of {there.total / 1024:.1f} GB free" + (", as the control group allows" if there.limited else "")
    text += ": little; a training takes 1–2 GB, `snakemake --cores 1` takes the least" if tight else ""
    yield Finding("note" if tight else "ok", "memory", text)
    swap = psutil.swap_memory()
    if swap.used > 1e9:
        yield Finding("note", "swap", f"{swap.used / 1e9:.1f} GB swapped out: run fewer jobs at once")


def look_parallel() -> Iterator[Finding]:
    advice = recommend(usable_cores(), memory().total / 1024, len(usable_gpus()))
    yield Finding(
        "ok", "at once", f"{count(advice.runs, 'run')} of which nothing is known ({advice.reason}); `trainyard recommend` says more"
    )


def look_gpu() -> Iterator[Finding]:
    built = torch_cuda()
    torch = f"torch {metadata.version('torch')} {'for CUDA ' + built if built else 'without CUDA'}"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        yield Finding("ok", "gpu", f"Apple GPU (MPS); {torch}")
        return
    command = shutil.which("nvidia-smi")
    if command is None:
        yield Finding("ok", "gpu", f"none; trainings use the CPU; {torch}")
        return
    done = subprocess.run(
        [command, "--query-gpu=name,memory.used,memory.total", "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=30
    )
    if done.returncode:
        yield Finding("bad", "gpu", f"nvidia-smi fails: {' '.join((done.stdout + done.stderr).split())[:200]}")
        return
    for line in done.stdout.strip().splitlines():
        name, used, total = [part.strip() for part in line.split(",")]
        yield Finding("ok", "gpu", f"{name}, {used} of {total} MB used")
    for holder in holders_of(usable_gpus()):
        yield Finding("ok", "gpu slot", f"{holder.get('run')} (pid {holder.get('pid')}) holds {holder['gpu']}")
    if not built:
        yield Finding("bad", "gpu", f"{torch}: the GPU is not used. Install torch with CUDA: rm -rf .venv .setup && make setup")
    else:
        yield Finding("ok", "torch", torch)


def look_folder(name: str, path: Path) -> Iterator[Finding]:
    """Free room and kind of mount of a folder, whether it exists or not."""
    from trainyard.data.mounts import describe

    there = next((p for p in [path.absolute(), *path.absolute().parents] if p.exists()), Path("/"))
    mount = describe(path)
    if mount.trouble:
        yield Finding("bad", name, f"{path}: {mount.words} does not answer: {mount.trouble}; mount it again")
        return
    usage = shutil.disk_usage(there)
    full = usage.free < 2e9
    text = f"{path}{'' if path.exists() else ' (not there yet)'}: {usage.free / 1e9:.0f} of {usage.total / 1e9:.0f} GB free, {mount.words}"
    if full:
        text += "; less than 2 GB: make room"
    if not mount.local and name == "results":
        text += "; locks and memory maps are slow or wrong on such a mount, put results on a local disk"
    elif not mount.local:
        text += "; the local copy reads it once, training never does"
    yield Finding("bad" if full else "ok" if mount.local else "note", name, text)
    if name == "results" and there == path.absolute() and not os.access(there, os.W_OK):
        yield Finding("bad", name, f"{path} cannot be written by this user")


def look_workflow() -> Iterator[Finding]:
    locks = Path(".snakemake/locks")
    if locks.is_dir() and any(locks.iterdir()):
        yield Finding(
            "note",
            "lock",
            "the folder is locked: `trainyard status` says whether a snakemake runs; if not, the next one takes the lock away "
            "(on another machine: `snakemake --unlock`)",
        )
    if not Path("Snakefile").exists():
        yield Finding("note", "folder", "there is no Snakefile here: run it from the repository's folder")
    found = util.find_spec("snakemake_logger_plugin_trainyard")
    yield Finding(
        "ok" if found else "bad", "logger", "the logger plugin is found" if found else "the logger plugin is not found: run `make setup`"
    )
