"""Items that a fork makes ahead: in order, with errors, and nobody and no lock outlives the one that takes them."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from copy_runs import prepare, settings
from processes import gone
from trainyard.data.work_folder import held

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="helpers are forks on Linux only")
HEAD = """
import itertools, json, os, signal, sys, time
from pathlib import Path
from trainyard.command import run_command, thread_limit
thread_limit(1)
from trainyard.data.errors import DataError
from trainyard.data.fork import MadeAhead, can_fork
from trainyard.data.work_folder import held
"""


def start(code: str, *argv: str | Path) -> subprocess.Popen:
    """A process of its own, without threads: pytest may have some."""
    command = [sys.executable, "-c", HEAD + textwrap.dedent(code), *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_items_come_in_order_and_then_the_error() -> None:
    process = start("""
        def items():
            yield from ((i, "x" * i, b"y") for i in range(2000))
            raise DataError("no more of them")
        taken = []
        try:
            for item in MadeAhead(items()):
                taken.append(item)
        except DataError as error:
            print(error, taken == [(i, "x" * i, b"y") for i in range(2000)])
    """)
    assert process.communicate(timeout=60) == ("no more of them True\n", "")


def test_a_fork_waits_for_who_takes_its_items_and_ends_when_none_are_wanted() -> None:
    """It is ahead by what a pipe holds, though it could go on for ever."""
    process = start("""
        made = MadeAhead((os.getpid(), number, b"x" * 100_000) for number in itertools.count())
        for pid, number, _ in made:
            if number == 20:
                break
        time.sleep(0.2)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        made.close()
        print(pages * os.sysconf("SC_PAGE_SIZE") < 200_000_000, Path(f"/proc/{pid}").exists())
    """)
    assert process.communicate(timeout=60) == ("True False\n", "")


def test_who_is_killed_leaves_no_fork_and_no_lock_behind(tmp_path: Path) -> None:
    process = start(
        """
        with held(Path(sys.argv[1]), "busy"):
            def items():
                print(os.getpid(), flush=True)
                yield b"first"
                time.sleep(3)
                yield b"x" * (1 << 22)
            list(MadeAhead(items()))
    """,
        tmp_path,
    )
    fork = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    with held(tmp_path, "busy"):
        assert Path(f"/proc/{fork}").exists()  # busy still, but without the lock
    assert gone(fork)
    process.communicate(timeout=30)


@pytest.mark.parametrize("kind", ["rows", "files"])
def test_a_copy_is_the_same_whoever_reads_its_rows(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    rows = [json.dumps({"prompt": f"question {i % 250}", "answer": "yes" if i % 9 else ""}).encode() for i in range(300)]
    rows[7:9] = [b"no JSON", b'{"prompt": "\xff", "answer": "b"}']
    if kind == "rows":
        (root / "x.jsonl").write_bytes(b"\n".join(rows))
    else:
        for i, row in enumerate(rows):
            (root / f"{i:03d}.json").write_bytes(row)
    keys = settings(format="chat", glob=["*.json*"], features={})
    index, splits = prepare(root, keys)
    found = []
    for workers in (1, 2):
        out = tmp_path / f"packs{workers}"
        process = start(
            """
            from trainyard.data.copy import Limits, LocalCopy
            forks = []
            sys.addaudithook(lambda event, _: forks.append(event) if event == "os.fork" else None)
            root, index, splits, keys, out, workers = sys.argv[1:]
            copy = LocalCopy(Path(root), index, splits, json.loads(keys), Limits(workers=int(workers)))
            copy.run(Path(out), out + "/quarantine.csv", out + "/summary.json")
            print(len(forks))
        """,
            root, index, splits, json.dumps(keys), out, str(workers),
        )  # fmt: skip
        text, errors = process.communicate(timeout=60)
        assert text.splitlines()[-1] == str(workers - 1), errors
        found.append({p.name: p.read_bytes() for p in out.iterdir() if p.name != "summary.json"})
    assert found[0] == found[1] and os.listdir(tmp_path / "packs1")
