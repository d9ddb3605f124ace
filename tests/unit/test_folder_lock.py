"""Snakemake's lock: taken away when its holder is dead, never while it lives, never when it is another's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from trainyard.host import folder_lock

# A Snakemake of its own: makes its lock files, claims them, and stays.
HOLDER = """
import pathlib, sys
from trainyard.host.folder_lock import claim_locks
state = pathlib.Path(sys.argv[1])
(state / "locks").mkdir(parents=True, exist_ok=True)
(state / "locks" / f"{sys.argv[2]}.input.lock").write_text("a")
claim_locks(state)
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path):
    started = []

    def begin(name: str = "0") -> subprocess.Popen:
        command = [sys.executable, "-c", HOLDER, str(tmp_path), name]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "claimed\n"
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def locks(state: Path) -> list[str]:
    return sorted(p.name for p in (state / "locks").glob("*"))


def test_a_lock_stays_while_its_holder_lives_and_goes_when_it_was_killed(hold, tmp_path):
    first, _, said = hold("0"), hold("1"), []
    folder_lock.drop_dead_locks(said.append, tmp_path)
    assert locks(tmp_path) == ["0.input.lock", "1.input.lock"] and not said
    first.kill()
    first.wait(30)
    folder_lock.drop_dead_locks(said.append, tmp_path)
    assert locks(tmp_path) == ["1.input.lock"] and [f"pid {first.pid}" in line for line in said] == [True]


def test_a_lock_that_was_made_anew_is_not_the_dead_ones(hold, tmp_path):
    holder = hold()
    holder.kill()
    holder.wait(30)
    path = tmp_path / "locks" / "0.input.lock"
    path.unlink()
    path.write_text("of another, who has not claimed it yet")
    os.utime(path, (2e9, 2e9))
    folder_lock.drop_dead_locks(pytest.fail, tmp_path)
    assert locks(tmp_path) == ["0.input.lock"]


def test_locks_of_another_host_and_locks_that_nobody_claims_are_left_to_a_person(hold, tmp_path):
    holder = hold()
    holder.kill()
    holder.wait(30)
    (claim,) = (tmp_path / "trainyard" / "claims").iterdir()
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "host": "elsewhere"}))
    (tmp_path / "locks" / "7.input.lock").write_text("b")
    (tmp_path / "trainyard" / "claims" / "torn.json").write_text("{")
    folder_lock.drop_dead_locks(pytest.fail, tmp_path)
    assert locks(tmp_path) == ["0.input.lock", "7.input.lock"]


def test_a_folder_without_a_snakemake_yet(tmp_path):
    folder_lock.drop_dead_locks(pytest.fail, tmp_path / "none")
    assert not (tmp_path / "none").exists()
