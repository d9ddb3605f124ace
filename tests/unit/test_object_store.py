"""The object store of a run: a real rclone, its keys, its life and its end."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from served import keys, needs_rclone
from trainyard.machines import object_store
from trainyard.machines.object_store import BUCKET, ObjectStore, StoreError
from trainyard.machines.s3 import client

needs_rclone()


def given(access, monkeypatch):
    for name, value in keys(access).items():
        monkeypatch.setenv(name, value)
    return client(retries=8)


def rclones(folder: Path) -> dict[int, str]:
    """Command lines of the processes that serve this folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if str(folder / "store") in command and "serve" in command:
            found[int(process.name)] = command
    return found


def gone(folder: Path) -> bool:
    until = time.monotonic() + 20
    while rclones(folder) and time.monotonic() < until:
        time.sleep(0.05)
    return not rclones(folder)


@pytest.fixture
def store(tmp_path):
    store = ObjectStore(tmp_path / "yard")
    yield store
    store.close()
    assert gone(tmp_path / "yard"), "whoever opened a store leaves nothing behind"


def test_what_is_put_is_a_plain_file_and_comes_back(store, tmp_path, monkeypatch):
    s3 = given(store.open(), monkeypatch)
    s3.put_object(Bucket=BUCKET, Key="results/a b/ä.txt", Body=b"words")
    assert (tmp_path / "yard/store" / BUCKET / "results/a b/ä.txt").read_bytes() == b"words"
    assert s3.get_object(Bucket=BUCKET, Key="results/a b/ä.txt")["Body"].read() == b"words"


def test_without_the_keys_nothing_is_given_out(store, monkeypatch):
    access = store.open()
    given(access, monkeypatch).put_object(Bucket=BUCKET, Key="x", Body=b"words")
    monkeypatch.setenv("SNAKEMAKE_STORAGE_S3_SECRET_KEY", "0" * 48)
    with pytest.raises(Exception, match=r"SignatureDoesNotMatch|403|Forbidden|InvalidAccessKeyId"):
        client().get_object(Bucket=BUCKET, Key="x")


def test_keys_are_on_no_command_line_and_in_one_file_for_this_user_alone(store, tmp_path):
    access = store.open()
    state = tmp_path / "yard/store.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600 and stat.S_IMODE(state.parent.stat().st_mode) == 0o700
    assert len(rclones(tmp_path / "yard")) == 2
    for command in rclones(tmp_path / "yard").values():
        assert access.secret_key not in command and access.access_key not in command
    files = [p for p in (tmp_path / "yard").rglob("*") if p.is_file() and access.secret_key in p.read_text(errors="replace")]
    assert files == [state]


def test_it_listens_on_loopback_alone(store):
    port = f"{store.open().port:04X}"
    listening = [line.split()[1] for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    assert [a for a in listening if a.endswith(":" + port)] and {a for a in listening if a.endswith(":" + port)} <= {f"0100007F:{port}"}


def test_a_fresh_run_has_fresh_keys_and_the_same_files(store, tmp_path, monkeypatch):
    first = store.open()
    given(first, monkeypatch).put_object(Bucket=BUCKET, Key="x", Body=b"1")
    store.close()
    assert not (tmp_path / "yard/store.json").exists()
    second = store.open()
    assert second.access_key != first.access_key and second.secret_key != first.secret_key
    assert given(second, monkeypatch).get_object(Bucket=BUCKET, Key="x")["Body"].read() == b"1"


@pytest.mark.parametrize("victim", ["rclone", "its keeper"])
def test_killed_9_it_comes_back_at_the_same_address(store, tmp_path, monkeypatch, victim):
    said = []
    store.say = said.append
    s3 = given(store.open(), monkeypatch)
    s3.put_object(Bucket=BUCKET, Key="x", Body=b"1")
    for number in (1, 2):
        pids = {pid for pid, command in rclones(tmp_path / "yard").items() if ("tied.py" in command) == (victim == "its keeper")}
        assert len(pids) == 1
        os.kill(pids.pop(), signal.SIGKILL)
        assert s3.get_object(Bucket=BUCKET, Key="x")["Body"].read() == b"1", "a client that tries again is served"
        until = time.monotonic() + 30  # the one before may have answered while it was ended
        while (len(said) < number or len(rclones(tmp_path / "yard")) < 2) and time.monotonic() < until:
            time.sleep(0.02)
    assert len(said) == 2 and all("signal 9" in line and "started again" in line for line in said)


OPENER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from trainyard.machines.object_store import ObjectStore
print(ObjectStore(Path(sys.argv[2])).open().endpoint, flush=True)
time.sleep(60)
"""


def opened_elsewhere(folder: Path) -> subprocess.Popen:
    home = Path(object_store.__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", OPENER, str(home), str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    return process


def test_it_ends_with_a_controller_that_is_killed_and_the_next_goes_on_with_its_keys(store, tmp_path):
    process = opened_elsewhere(tmp_path / "yard")
    left = json.loads((tmp_path / "yard/store.json").read_text())
    process.kill()
    process.wait(20)
    assert gone(tmp_path / "yard")
    access = store.open()
    assert (access.port, access.secret_key) == (left["port"], left["secret_key"]), "jobs that still run elsewhere hold these"


def test_a_second_call_uses_the_store_of_the_first_and_does_not_end_it(store, tmp_path):
    process = opened_elsewhere(tmp_path / "yard")
    try:
        access = store.open()
        assert not store.owned and json.loads((tmp_path / "yard/store.json").read_text())["port"] == access.port
        store.close()
        assert len(rclones(tmp_path / "yard")) == 2
    finally:
        process.kill()
        process.wait(20)


def test_a_holder_that_does_not_answer_is_named(store, tmp_path, monkeypatch):
    process = opened_elsewhere(tmp_path / "yard")
    try:
        (tmp_path / "yard/store.json").unlink()
        monkeypatch.setattr(object_store, "READY", 0.3)
        with pytest.raises(StoreError, match=rf"another call of Snakemake holds the object store \(pid {process.pid} on .*wait for it"):
            store.open()
    finally:
        process.kill()
        process.wait(20)


def test_an_rclone_that_cannot_start_is_one_message(store, tmp_path, monkeypatch):
    broken = tmp_path / "rclone"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(object_store, "rclone", lambda: str(broken))
    monkeypatch.setattr(object_store, "READY", 1.0)
    with pytest.raises(StoreError, match="does not start"):
        store.open()
