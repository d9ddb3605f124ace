"""Rival ways to do one thing, measured in one run: interleaved rounds, whole processes, ratios with the goal beside them.

results = measure({"cp": command(["cp", a, b], flush=folder), "ours": command([python, script], flush=folder)}, rounds=5)
report("split", results, baseline="cp", goals=[Goal("ours", at_most=4, than="cp"), Goal("ours", at_least=1, than="split")])

"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
SCRIPTS = REPOSITORY / "workflow" / "scripts"
PEERS = REPOSITORY / ".bench" / "bin"  # what `make benchmarks` installs

# A process counts the memory of the one that forked it as its own until it executes, so a small one does that.
_START = """
import os, sys, time
start = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    print(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=file)
sys.exit(min(os.waitstatus_to_exitcode(status) % 256, 255))
"""


@dataclass(frozen=True)
class Run:
    """One measurement: wall and processor seconds; of whole processes also peak memory in bytes, else 0."""

    seconds: float
    cpu: float = 0.0
    peak: int = 0


@dataclass(frozen=True)
class Goal:
    """Time of `case` over that of `than` at most so much; or `than` over `case`, how many times faster, at least so much."""

    case: str
    than: str
    at_most: float | None = None
    at_least: float | None = None


def command(
    argv: Sequence[str | os.PathLike], *, flush: Path | None = None, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Callable[[], Run]:
    """A case that is a whole process, start and imports included. Raises RuntimeError with its output when it fails.

    `flush`: files below this folder are written through to the disk inside the measured time, for every rival alike: a copy
    that only filled the page cache would be compared with one that is safe. Peak memory is the kernel's `ru_maxrss`, and at
    least the 9 MB of the starter.
    """
    argv = [os.fspath(a) for a in argv]
    # Python keeps what it has compiled, unless it is told not to: nobody starts a command that is compiled anew each time.
    env = {k: v for k, v in (os.environ if env is None else env).items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run() -> Run:
        with TemporaryDirectory() as logs, open(Path(logs, "out"), "w+b") as log:
            starter = [sys.executable, "-I", "-S", "-c", _START, f"{logs}/figures", *argv]
            code = subprocess.run(starter, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=cwd, env=env).returncode
            if code:
                log.seek(0)
                raise RuntimeError(f"{' '.join(argv)}: exit {code}\n{log.read().decode(errors='replace')[-2000:]}")
            seconds, cpu, peak = map(float, Path(logs, "figures").read_text().split())
        start = time.perf_counter()
        if flush is not None:
            flush_files(flush)
        return Run(seconds + time.perf_counter() - start, cpu, int(peak) * (1 if sys.platform == "darwin" else 1024))

    return run


def call(function: Callable[[], object]) -> Callable[[], Run]:
    """A case that is a function of this process; its time, and the processor time of all threads."""

    def run() -> Run:
        start, cpu = time.perf_counter(), time.process_time()
        function()
        return Run(time.perf_counter() - start, time.process_time() - cpu)

    return run


def flush_files(folder: Path) -> None:
    """fsync of every file below a folder, or of the file."""
    paths = [folder] if folder.is_file() else [Path(top, name) for top, _, names in os.walk(folder) for name in names]
    for path in paths:
        if path.is_symlink():
            continue
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)


def warm(*paths: Path) -> None:
    """Read files once, so that the first case does not pay for the page cache of the others."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(8 << 20):
                pass


def measure(
    cases: Mapping[str, Callable[[], Run]], rounds: int = 5, prepare: Callable[[str], object] | None = None, seconds: float = 1e9
) -> dict[str, list[Run]]:
    """Every case once a round, in an order that rotates, so that a busy minute of the machine hurts all of them.

    `prepare(name)` runs before each case, unmeasured: empty the output folder. No round begins after that many seconds.
    """
    begun = time.monotonic()
    results: dict[str, list[Run]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(rounds):
        if number and time.monotonic() - begun > seconds:
            break
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            if prepare is not None:
                prepare(name)
            results[name].append(cases[name]())
            print(f"\rround {number + 1} of {rounds}: {name:<40.40}", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)
    return results


def ratios(results: Mapping[str, Sequence[Run]], case: str, over: str) -> list[float]:
    """Time of one case over another's, round by round."""
    return [a.seconds / b.seconds for a, b in zip(results[case], results[over])]


def report(title: str, results: Mapping[str, Sequence[Run]], baseline: str, goals: Sequence[Goal] = ()) -> bool:
    """Print a table of the cases, and each goal with the rounds that met it. True when the median met every goal."""
    rows = []
    for name, runs in results.items():
        paired = ratios(results, name, baseline)
        peak = max(r.peak for r in runs)
        cpu = statistics.median(r.cpu for r in runs)
        seconds = [r.seconds for r in runs]
        rows.append([
            name, f"{statistics.median(seconds):.3g}", f"{min(seconds):.3g}", f"{statistics.median(paired):.3g}",
            f"{min(paired):.3g}–{max(paired):.3g}", f"{cpu:.3g}" if cpu else "", f"{peak / 1e6:.0f}" if peak else "",
        ])  # fmt: skip
    rounds = len(next(iter(results.values())))
    print(f"\n{title}; {rounds} rounds, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print_table(["case", "median s", "least s", f"× {baseline}", "least–most", "CPU s", "peak MB"], rows)
    met = True
    for goal in goals:
        if goal.at_most is not None:
            figures = ratios(results, goal.case, goal.than)
            good = [f <= goal.at_most for f in figures]
            text, passed = f"≤ {goal.at_most:g} × {goal.than}", statistics.median(figures) <= goal.at_most
        else:
            least = goal.at_least or 1.0
            figures = ratios(results, goal.than, goal.case)
            good = [f >= least for f in figures]
            text, passed = f"≥ {least:g} × faster than {goal.than}", statistics.median(figures) >= least
        met &= verdict(f"{goal.case} {text}", f"{statistics.median(figures):.3g}", passed, f"{sum(good)} of {len(good)} rounds")
    return met


def verdict(goal: str, figure: str, passed: bool, sure: str = "") -> bool:
    """Print a goal, the figure and whether it is met; for counts and sizes that are no ratio of times."""
    print(f"  {'met   ' if passed else 'MISSED'} {goal}: {figure}{f' ({sure})' if sure else ''}")
    return passed


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need; the first to the left, figures to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip())


def peer(name: str) -> Path | None:
    """An installed peer's command, from `make benchmarks` or the path; None after saying what to do."""
    found = shutil.which(name, path=f"{PEERS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        print(f"{name} is not installed and left out; `make benchmarks` installs the peers", file=sys.stderr)
    return Path(found) if found else None


def peer_python(module: str) -> Path | None:
    """A Python that can import a peer; None after saying what to do."""
    for python in (PEERS / "python", Path(sys.executable)):
        if python.exists() and subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0:
            return python
    print(f"{module} is not installed and left out; `make benchmarks` installs the peers", file=sys.stderr)
    return None


@contextmanager
def scratch(folder: str | os.PathLike | None = None):
    """An empty folder, removed afterwards; on the disk of `folder` (default: the repository's), not in memory as /tmp may be."""
    with TemporaryDirectory(
        prefix=".bench-", dir=folder or os.environ.get("TRAINYARD_BENCH_DIR") or REPOSITORY, ignore_cleanup_errors=True
    ) as path:
        yield Path(path)
