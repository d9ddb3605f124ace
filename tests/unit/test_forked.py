"""A second process for half of the work: the same results, the same errors, and nobody left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trainyard.data.row_scan as row_scan
from trainyard.data.errors import DataError
from trainyard.data.forked import beside, can_fork
from trainyard.data.split_lines import split_lines

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="two processes only where a fork is safe")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def odd_rows(folder: Path, seed: int) -> Path:
    """JSONL files with everything a line may be: CRLF, blank, broken, long, a byte order mark, no newline at the end."""
    draw = random.Random(seed)
    folder.mkdir()
    for number in range(draw.randint(1, 4)):
        lines = []
        for _ in range(draw.randint(40, 120)):
            row = b'{"id": %d, "x": "%s"}' % (draw.randint(0, 200), b"y" * draw.choice((0, 5, 300)))
            lines.append(draw.choice((row, row, row, row, b"", b"no row", b'{"cut": ')) + draw.choice((b"\n", b"\r\n")))
        text = draw.choice((b"", b"\xef\xbb\xbf")) + b"".join(lines)
        (folder / f"{number}.jsonl").write_bytes(text + draw.choice((b"", b'{"last": 1}')))
    return folder


@pytest.mark.parametrize("seed", range(12))
def test_two_processes_find_the_rows_of_one(tmp_path, monkeypatch, seed) -> None:
    source = odd_rows(tmp_path / "rows", seed)
    monkeypatch.setattr(row_scan, "BLOCK", 700)
    made = {}
    for name, forks in (("one", 1 << 40), ("two", 0)):
        monkeypatch.setattr(row_scan, "FORK", forks)
        monkeypatch.setattr(row_scan, "can_fork", lambda: True)
        split_lines(source, tmp_path / name, 3, 0.2, seed)
        made[name] = {p.name: p.read_bytes() for p in sorted((tmp_path / name).iterdir())}
    assert made["one"] == made["two"]
    assert "quarantine.csv" in made["two"]  # so the numbers of lines behind the border are compared too


def test_results_and_errors_come_back() -> None:
    with beside(lambda: {"rows": 3}) as others:
        assert others() == {"rows": 3}

    def fail() -> None:
        raise DataError("rows.jsonl: became shorter")

    with pytest.raises(DataError, match="became shorter"), beside(fail) as others:
        others()


def test_a_process_that_was_killed_is_said() -> None:
    with pytest.raises(DataError, match="ended from outside"), beside(lambda: os.kill(os.getpid(), signal.SIGKILL)) as others:
        others()


def test_leaving_early_ends_it(tmp_path) -> None:
    note = tmp_path / "pid"

    def wait() -> None:
        note.write_text(str(os.getpid()))
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt), beside(wait):
        while not note.exists() or not note.read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert gone(int(note.read_text()))


def test_it_ends_with_the_process_that_made_it(tmp_path) -> None:
    note = tmp_path / "pid"
    program = f"""
import os, time
from trainyard.data.forked import beside
def wait():
    with open({str(note)!r}, "w") as file: file.write(str(os.getpid()))
    time.sleep(60)
with beside(wait) as others:
    others()
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        end = time.monotonic() + 20
        while (not note.exists() or not note.read_text()) and time.monotonic() < end:
            time.sleep(0.02)
        process.kill()
        process.wait(10)
        assert gone(int(note.read_text()))
    finally:
        process.kill()
        process.wait(10)


def test_no_fork_beside_other_threads() -> None:
    import threading

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert not can_fork()
    finally:
        stop.set()
        thread.join()
