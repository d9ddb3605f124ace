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

Level = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    level: Level
    name: str
    text: str


def examine(results: Path, data: list[Path]) -> Iterator[Finding]:
    """Everything looked at, in the order shown. A look that fails is itself a finding."""
    looks: list[Callable[[], Iterator[Finding]]] = [look_python, look_packages, look_audio, look_cores, look_memory, look_gpu]
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


def look_audio() -> Iterator[Finding]:
    import soundfile

    decoder = f"soundfile {soundfile.__version__}, libsndfile {soundfile.__libsndfile_version__}"
    if util.find_spec("torchaudio") is None:
        yield Finding("ok", "audio", f"{decoder}, mel by scipy (torchaudio is not installed, and not needed)")
        return
    # In another interpreter: a wheel that does not fit breaks the one that imports it.
    done = subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, text=True, timeout=120)
    if done.returncode:
        yield Finding(
            "bad",
            "audio",
            "torchaudio is installed but does not import, and takes transformers with it: .venv/bin/uv pip uninstall torchaudio",
        )
    else:
        yield Finding(
            "ok", "audio", f"{decoder}, mel by scipy; torchaudio {metadata.version('torchaudio')} is there for your own transforms"
        )


def usable_cores() -> float:
    """Cores this process may use: affinity, and the limit of a container (cgroup v2)."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        return cores


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

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    total, free = memory.total, memory.available
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, free = min(total, limit), min(free, limit - used)
    except (OSError, ValueError):
        pass
    tight = free < 2e9
    text = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free" + (
        ": little; a training takes 1–2 GB, `snakemake --cores 1` takes the least" if tight else ""
    )
    yield Finding("note" if tight else "ok", "memory", text)
    if swap.used > 1e9:
        yield Finding("note", "swap", f"{swap.used / 1e9:.1f} GB swapped out: run fewer jobs at once")


def look_gpu() -> Iterator[Finding]:
    built = _torch_cuda()
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
    if not built:
        yield Finding("bad", "gpu", f"{torch}: the GPU is not used. Install torch with CUDA: rm -rf .venv .setup && make setup")
    else:
        yield Finding("ok", "torch", torch)


def _torch_cuda() -> str | None:
    """The CUDA version torch was built for, from its version file: importing torch takes seconds."""
    spec = util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    text = (Path(spec.submodule_search_locations[0]) / "version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=]*=\s*'([^']+)'", text, re.MULTILINE)
    return match[1] if match else None


def look_folder(name: str, path: Path) -> Iterator[Finding]:
    """Free room and kind of mount of a folder, whether it exists or not."""
    from trainyard.data.storage import describe

    there = next((p for p in [path.absolute(), *path.absolute().parents] if p.exists()), Path("/"))
    usage = shutil.disk_usage(there)
    mount = describe(there)
    full = usage.free < 2e9
    text = f"{path}{'' if path.exists() else ' (not there yet)'}: {usage.free / 1e9:.0f} of {usage.total / 1e9:.0f} GB free, {mount.name}"
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
            "note", "lock", "the folder is locked: `trainyard status` says whether a snakemake runs; if not, `snakemake --unlock`"
        )
    if not Path("Snakefile").exists():
        yield Finding("note", "folder", "there is no Snakefile here: run it from the repository's folder")
    found = util.find_spec("snakemake_logger_plugin_trainyard")
    yield Finding(
        "ok" if found else "bad", "logger", "the logger plugin is found" if found else "the logger plugin is not found: run `make setup`"
    )
