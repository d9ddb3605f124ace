"""Pieces of work shared among processes: each done once, errors arrive, and nobody outlives the one that began."""

import os
import signal
import subprocess
import sys
import textwrap
from array import array
from pathlib import Path

import pytest
from processes import gone
from trainyard.data.share import MOST_PIECES, share

FORKS = pytest.mark.skipif(sys.platform != "linux", reason="helpers are forks on Linux only")


def start(code: str, *argv: str | Path) -> subprocess.Popen:
    """A process of its own, without threads: pytest may have some."""
    head = """
import os, signal, sys, time
from array import array
from trainyard.command import run_command
from trainyard.data.errors import DataError
from trainyard.data.share import share
"""
    command = [sys.executable, "-c", head + textwrap.dedent(code), *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("pieces", [0, 1, 2, 30])
def test_results_are_in_order_with_any_workers(pieces: int, workers: int) -> None:
    begun = []
    work = lambda piece: [array("Q", [piece] * piece), array("d", [0.1, piece])]  # noqa: E731
    assert [list(found) for found in share(work, pieces, workers, lambda: begun.append(1))] == [work(i) for i in range(pieces)]
    assert begun == [1]


def test_too_many_pieces_are_refused() -> None:
    with pytest.raises(ValueError, match="pieces"):
        share(lambda piece: (), MOST_PIECES + 1, 2)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_piece_raises_comes_out(workers: int) -> None:
    def work(piece: int) -> tuple[()]:
        if piece == 4:
            raise OSError(28, "No space left", "here")
        return ()

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
            return array("Q", [os.getpid()]), array("b"), array("I", [piece] * 1000)
        got = share(work, {MOST_PIECES}, 3)
        print(len(set(pid[0] for pid, *_ in got)), all(x == array("I", [i] * 1000) for i, (_, _, x) in enumerate(got)))
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            print("none left")
    """
    out, err = start(code, tmp_path / "done").communicate(timeout=60)
    assert out == "3 True\nnone left\n", err
    assert sorted(map(int, (tmp_path / "done").read_text().split())) == list(range(MOST_PIECES))


@FORKS
@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "error: a helper process was killed (SIGKILL): out of memory? run again"),
        ("os.kill(os.getpid(), signal.SIGBUS)", "error: a helper process ended (SIGBUS); run again"),
        ("os._exit(7)", "error: a helper process ended (exit code 7); run again"),
        ("raise OSError(28, 'No space left', os.fsdecode(b'x' + bytes([255])))", "error: x\\udcff: No space left"),
        ("raise OSError('this one')", "error: this one"),
        ("raise DataError('this one')", "error: this one"),
        ("1 / 0", "error: ZeroDivisionError in a helper process: division by zero"),
    ],
)
def test_a_helper_that_ends_is_an_error(ends: str, says: str) -> None:
    process = start(f"""
        parent = os.getpid()
        def work(piece):
            time.sleep(0.05)
            if os.getpid() != parent:
                {ends}
            return ()
        run_command(lambda: share(work, 20, 2) and None)
    """)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and says in err, err
    assert ("Traceback" in err) is ("Zero" in says)


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
            return ()
        run_command(lambda: share(work, 1000, 2) and None)
    """)
    helper = int(process.stdout.readline())
    (os.killpg if group else os.kill)(process.pid, how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert gone(helper) and err == ""


@FORKS
def test_a_process_with_threads_is_not_forked() -> None:
    process = start("""
        import threading
        stop = threading.Event()
        threading.Thread(target=stop.wait).start()
        print(len({pid for [[pid]] in share(lambda piece: [array('Q', [os.getpid()])], 10, 3)}))
        stop.set()
    """)
    assert process.communicate(timeout=60)[0] == "1\n"
