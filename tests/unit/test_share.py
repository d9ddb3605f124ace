"""Pieces of work shared among processes: each done once, errors arrive, and nobody outlives the one that began."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from trainyard.data.share import MOST_PIECES, share

FORKS = pytest.mark.skipif(sys.platform != "linux", reason="helpers are forks on Linux only")


def start(code: str, *argv: str | Path) -> subprocess.Popen:
    """A process of its own, without threads: pytest may have some."""
    head = "import os, signal, sys, time\nfrom trainyard.command import run_command\nfrom trainyard.data.share import share\n"
    command = [sys.executable, "-c", head + textwrap.dedent(code), *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def ended(pid: int) -> bool:
    """Whether a process is gone, waiting a little for it."""
    for _ in range(1000):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("pieces", [0, 1, 2, 30])
def test_results_are_in_order_with_any_workers(pieces: int, workers: int) -> None:
    begun = []
    assert share(lambda piece: piece * piece, pieces, workers, lambda: begun.append(1)) == [i * i for i in range(pieces)]
    assert begun == [1]


def test_too_many_pieces_are_refused() -> None:
    with pytest.raises(ValueError, match="pieces"):
        share(lambda piece: piece, MOST_PIECES + 1, 2)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_piece_raises_comes_out(workers: int) -> None:
    def work(piece: int) -> None:
        if piece == 4:
            raise OSError(28, "No space left", "here")

    with pytest.raises(OSError, match="No space left") as caught:
        share(work, 9, workers)
    assert (caught.value.errno, caught.value.filename) == (28, "here")


@FORKS
def test_processes_share_all_pieces_and_each_is_done_once(tmp_path: Path) -> None:
    code = f"""
        def work(piece):
            file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, b"%d\\n" % piece)
            os.close(file)
            time.sleep(0.001)
            return os.getpid(), b"x" * 1000
        got = share(work, {MOST_PIECES}, 3)
        print(len(set(pid for pid, _ in got)), len(got), all(len(x) == 1000 for _, x in got))
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            print("none left")
    """
    out, err = start(code, tmp_path / "done").communicate(timeout=60)
    assert out == f"3 {MOST_PIECES} True\nnone left\n", err
    assert sorted(map(int, (tmp_path / "done").read_text().split())) == list(range(MOST_PIECES))


@FORKS
@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "error: a helper process was killed (SIGKILL): out of memory? run again"),
        ("os.kill(os.getpid(), signal.SIGBUS)", "error: a helper process ended (SIGBUS); run again"),
        ("os._exit(7)", "error: a helper process ended (exit code 7); run again"),
        ("raise ValueError('this one')", "error: this one"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_helper_that_ends_is_an_error(ends: str, says: str) -> None:
    process = start(f"""
        parent = os.getpid()
        def work(piece):
            time.sleep(0.05)
            if os.getpid() != parent:
                {ends}
        run_command(lambda: share(work, 20, 2) and None)
    """)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and says in err, err
    assert ("in a helper" in err) is ("Zero" in says)


@FORKS
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("group", [True, False])
def test_helpers_do_not_outlive_whoever_began(how: signal.Signals, group: bool) -> None:
    process = start("""
        parent = os.getpid()
        def work(piece):
            if os.getpid() != parent:
                print(os.getpid(), flush=True)
            time.sleep(0.05)
        run_command(lambda: share(work, 1000, 2) and None)
    """)
    helper = int(process.stdout.readline())
    (os.killpg if group else os.kill)(process.pid, how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert ended(helper) and err == ""


@FORKS
def test_a_process_with_threads_is_not_forked() -> None:
    process = start("""
        import threading
        stop = threading.Event()
        threading.Thread(target=stop.wait).start()
        print(len({share(lambda piece: os.getpid(), 10, 3)[i] for i in range(10)}))
        stop.set()
    """)
    assert process.communicate(timeout=60)[0] == "1\n"
