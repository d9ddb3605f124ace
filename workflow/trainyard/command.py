"""What every command shares: errors in one line, a log an attempt, capped threads."""

import gc
import importlib
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import NoReturn

# What numeric libraries read when they start: OpenMP (torch, Arrow, scikit-learn), the BLAS libraries, numexpr, tokenizers.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
# Mistakes of input, settings and machine: said in one line. Anything else is a bug of ours and keeps its traceback.
PERSONAL = (ValueError, OSError, RuntimeError, MemoryError)


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's main() and leave with its exit code. TRAINYARD_DEBUG=1 keeps every traceback."""
    try:
        code = main() or 0
    except KeyboardInterrupt:
        code = 130
    except PERSONAL as error:
        if os.environ.get("TRAINYARD_DEBUG") or not str(error) or _from_a_library(error):
            import traceback

            traceback.print_exc()
        print(f"error: {one_line(error)}", file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Interpreter shutdown with torch loaded takes up to half a second, and every output is on disk by now.
    os._exit(code)


def _from_a_library(error: BaseException) -> bool:
    """A bare ValueError or RuntimeError that no `raise` of ours said: a bug to be found, not a word to a person."""
    if type(error) not in (ValueError, RuntimeError) or error.__traceback__ is None:
        return False
    import traceback

    place = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(place.filename).resolve().is_relative_to(Path(__file__).resolve().parents[1])
    return not (ours and (place.line or "").startswith("raise"))


def one_line(error: BaseException) -> str:
    """The error in one line, as a person should read it."""
    if isinstance(error, OSError) and error.strerror:
        names = " -> ".join(str(n) for n in (error.filename, error.filename2) if n)
        return f"{names}: {error.strerror}" if names else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def at_least(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number, and no smaller one."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"'{text}' is no whole number") from None
        if value < least:
            raise ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number


def not_empty(text: str) -> str:
    """The type of an argument that an unset variable of a shell leaves empty: as a path that would be the folder one is in."""
    if not text:
        raise ArgumentTypeError("is empty")
    return text


def not_empty_path(text: str) -> Path:
    """The same, as a path."""
    return Path(not_empty(text))


def share_of_machine(parser: ArgumentParser) -> None:
    """Arguments of every command that trains: what it may take of its machine, and whom it must not outlive."""
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads (default %(default)s)")
    parser.add_argument("--gpu-slots", type=at_least(1), default=1, help="runs that one GPU holds at once (default %(default)s)")
    parser.add_argument(
        "--watch-parent", type=int, nargs="?", const=os.getppid(), metavar="PID",
        help="save, where it can, and stop when the process that started this one (or PID) is gone",
    )  # fmt: skip


def attempt_log(log: str | None) -> None:
    """Send stdout and stderr to `<stem>.<UTC time>.log` beside `log`, and make `log` the same file.

    Snakemake has one log a job and overwrites it on the next attempt; so the attempt's own file is what is written.
    """
    if not log:
        return
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f"{path.stem}.{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log")
    handle = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    link = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        os.link(own, link)
    except OSError:  # no hard links on this filesystem
        link.symlink_to(own.name)
    os.replace(link, path)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def start_anew() -> NoReturn:
    """Put a new process of the same command in place of this one: it keeps the pid, and writes where this one writes now."""
    words = sys.orig_argv[1:]
    if "--log" in words:
        at = words.index("--log")
        del words[at : at + 2]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *words])


def thread_limit(threads: int) -> None:
    """Cap the threads of numeric libraries; must run before they are imported."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@contextmanager
def without_collector() -> Iterator[None]:
    """Imports, and work that makes no cycles, without the garbage collector, which would look through all of it over and over:
    a quarter of what imports take. What is alive in the end stays for the life of the process; it is not looked at afterwards either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def by_name(module: str) -> ModuleType:
    """A module that has to do with the machine and not with what is learned, kept out of the code's fingerprint by being named."""
    return importlib.import_module(module)
