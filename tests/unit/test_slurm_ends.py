"""What a call through Slurm leaves in its folder: told from one that is still there, and how its jobs ended."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_trainyard_slurm.ends as ends
from snakemake_executor_plugin_trainyard_slurm.accounts import accounts_in
from snakemake_executor_plugin_trainyard_slurm.ends import CONTROLLER, Ends, _controlled

CALL = """
import sys
from pathlib import Path
from snakemake_executor_plugin_trainyard_slurm.ends import Ends
kept = Ends(Path(sys.argv[1]))
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def call(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", CALL, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    yield process
    process.kill()
    process.wait(10)


def test_a_call_is_there_until_it_is_killed(call, tmp_path: Path) -> None:
    assert _controlled(tmp_path)
    call.kill()
    call.wait(10)
    assert not _controlled(tmp_path)


def test_a_number_that_another_process_has_now_is_no_call(tmp_path: Path) -> None:
    (tmp_path / CONTROLLER).write_text(json.dumps({"host": socket.gethostname(), "pid": 1}))  # as after a reboot
    assert not _controlled(tmp_path)
    (tmp_path / CONTROLLER).write_text("{")
    assert not _controlled(tmp_path)


def test_a_call_of_another_host_is_not_judged_by_numbers_of_this_one(tmp_path: Path) -> None:
    (tmp_path / CONTROLLER).write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert not _controlled(tmp_path)


def test_a_job_that_said_its_end_is_looked_at_soon_and_believed_late(tmp_path: Path, monkeypatch) -> None:
    kept = Ends(tmp_path / "call")
    good, bad, runs = (SimpleNamespace(jobid=i, attempt=1) for i in range(3))
    kept.files(good)[0].touch()
    kept.files(bad)[1].touch()
    kept.files(SimpleNamespace(jobid=2, attempt=2))[0].touch()  # not this attempt
    assert kept.fresh([good]) and kept.fresh([runs, bad]) and not kept.fresh([runs])
    assert kept.stale(good) is kept.stale(bad) is kept.stale(runs) is None
    now = time.monotonic()
    monkeypatch.setattr(ends.time, "monotonic", lambda: now + ends.LONG + 1)
    assert not kept.fresh([good, bad])
    assert kept.stale(good) is True and kept.stale(bad) is False and kept.stale(runs) is None
    kept.remove()
    assert not (tmp_path / "call").exists()


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("AccountingStorageType   = accounting_storage/none", False),
        ("AccountingStorageType   = (null)", False),
        ("AccountingStorageType   = accounting_storage/slurmdbd", True),
        ("nothing about it", True),  # sacct will say so itself
    ],
)
def test_whether_a_cluster_keeps_accounts(line: str, kept: bool) -> None:
    assert accounts_in(f"Configuration data\nAccountingStorageHost = x\n{line}\nAccountingStorageUser = root\n") is kept
