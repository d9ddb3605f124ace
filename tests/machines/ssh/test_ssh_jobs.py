"""Faults of jobs and hosts, on real sshd: each ends in a correct result or one clear message."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from desk import host_of, wait_for
from store import free_port


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_exit_codes_and_logs_come_back(network, desk):
    host = host_of(network.add())
    jobs = desk(host)
    jobs.submit("good", "echo fine; exit 0")
    jobs.submit("bad", "seq 1 30000; echo the reason >&2; exit 7")
    jobs.submit("killed", "kill -9 $$")
    assert jobs.wait("finished", "good").status["tail"] == "fine\n"
    failed = jobs.wait("failed", "bad")
    assert failed.status["rc"] == 7
    text = Path(failed.status["log"]).read_text()
    assert text.startswith("1\n2\n") and text.endswith("the reason\n") and len(text.splitlines()) == 30001
    assert jobs.wait("failed", "killed").status["rc"] == -9


def test_a_job_that_prints_100_mb(network, desk):
    """Beginning and end come back, and the host's disk holds no more than a few times the limit."""
    machine = network.add()
    jobs = desk(host_of(machine))
    jobs.submit("loud", "echo first; yes 'a line that is printed again and again' | head -c 100000000; sleep 1; echo last; exit 3")
    failed = jobs.wait("failed", "loud", 90)
    text = Path(failed.status["log"]).read_text()
    assert text.startswith("first\n") and text.endswith("last\n") and "bytes left out here" in text
    assert len(text) < 4 * jobs.log_limit


def test_cancel_ends_every_process(network, desk, tmp_path):
    """Those that left the process group and those whose parent has ended, too; and one that ignores TERM."""
    jobs = desk(host_of(network.add()))
    jobs.submit(
        "family",
        f"(trap '' TERM; exec sleep 300) & echo $! >> {tmp_path}/pids; setsid sleep 300 & echo $! >> {tmp_path}/pids; "
        f"(setsid sh -c 'echo $$ >> {tmp_path}/pids; exec sleep 300' &) ; echo $$ >> {tmp_path}/pids; wait",
    )
    jobs.wait("started", "family")
    pids = wait_for(lambda: (tmp_path / "pids").exists() and len(found := (tmp_path / "pids").read_text().split()) == 4 and found)
    jobs.cancel()
    wait_for(lambda: not any(alive(int(pid)) for pid in pids), 20)


def test_the_supervisor_is_killed(network, desk, tmp_path):
    """What hands in results dies with it, the rest is ended, and the job is known to have failed."""
    machine = network.add()
    jobs = desk(host_of(machine))
    jobs.submit("job", f"setsid sleep 301 & echo $! $$ > {tmp_path}/pids; sleep 302")
    jobs.wait("started", "job")
    pids = wait_for(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().split())
    token = jobs.attempt("job").token
    who = json.loads((machine.home / "work" / "test" / "jobs" / token / "who").read_text())
    os.kill(who["pid"], signal.SIGKILL)
    assert "supervisor was killed" in jobs.wait("failed", "job").text
    wait_for(lambda: not any(alive(int(pid)) for pid in pids), 20)


def test_its_sshd_is_killed(network, desk):
    """The job does not notice; the connection is made again."""
    machine = network.add()
    jobs = desk(host_of(machine))
    jobs.submit("job", "sleep 4; echo done")
    jobs.wait("started", "job")
    machine.kill(machine.named("sshd", "root"))
    assert jobs.wait("finished", "job").status["tail"] == "done\n"
    assert any("cannot be reached" in note for note in jobs.notes) and any("is back" in note for note in jobs.notes)
    assert sum(event.kind == "started" for event in jobs.events) == 1


def test_its_ssh_here_is_killed(network, desk):
    """The same from this side; and the port that leads here is made again."""
    machine, port = network.add(), free_port()
    jobs = desk(host_of(machine), forward=(port,))
    jobs.submit("job", "sleep 4; echo done")
    jobs.wait("started", "job")
    jobs.links[machine.name]._session._process.kill()
    assert jobs.wait("finished", "job").status["tail"] == "done\n"
    assert any("is back" in note for note in jobs.notes) and sum(event.kind == "started" for event in jobs.events) == 1
    assert f"127.0.0.1:{port}" in machine.listening()


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.slow)])
def test_the_link_is_cut_and_comes_back(network, desk, tmp_path, seconds):
    """Unknown is not dead: the job goes on, and is not started again. Cut until that is noticed, and for so long."""
    machine = network.add()
    jobs = desk(host_of(machine), limit=120.0)
    jobs.submit("job", f"echo begin; until [ -e {tmp_path}/go ]; do sleep 0.2; done; echo end")
    jobs.wait("started", "job")
    cut = time.monotonic()
    machine.cut()
    wait_for(lambda: any("cannot be reached" in note for note in jobs.notes), 60)
    while time.monotonic() < cut + seconds:
        assert not [event for event in jobs.tick() if event.kind in ("lost", "failed")]
        time.sleep(0.5)
    (tmp_path / "go").touch()
    machine.restore()
    assert jobs.wait("finished", "job").status["tail"] == "begin\nend\n"
    assert sum(event.kind == "started" for event in jobs.events) == 1


def test_a_late_result_cannot_be_handed_in(network, desk, tmp_path):
    """Cut off for longer than the limit: the job is started elsewhere, after the first attempt was stopped by its own host."""
    first, second = network.add(), network.add()
    jobs = desk(host_of(first), host_of(second), limit=12.0, shared=False)
    tell, go = f">> {tmp_path}/story", tmp_path / "go"
    jobs.submit(
        "job", f"echo $SNAKEMAKE_SSH_TOKEN begins {tell}; until [ -e {go} ]; do sleep 0.2; done; echo $SNAKEMAKE_SSH_TOKEN ends {tell}"
    )
    began_on = jobs.wait("started", "job").host
    machine = {first.name: first, second.name: second}[began_on]
    attempt = jobs.attempt("job")
    machine.cut()
    lost = jobs.wait("lost", "job", 60)
    assert lost.token == attempt.token
    # The old one stands still by now, though its host heard nothing.
    states = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in machine.named("until", str(go))]
    assert states and set(states) == {"T"}
    go.touch()
    finished = jobs.wait("finished", "job", 60)
    assert finished.host != began_on and finished.token != attempt.token
    machine.restore()
    wait_for(lambda: not machine.named("until", str(go)), 60)
    time.sleep(1)
    story = (tmp_path / "story").read_text()
    assert story == f"{attempt.token} begins\n{finished.token} begins\n{finished.token} ends\n"
    wait_for(lambda: not list(jobs.journal.read()) or jobs.book.settled(finished.host, finished.token), 5)


def test_cancelled_while_the_link_is_down(network, desk):
    """Ended as soon as the host is back."""
    machine = network.add()
    jobs = desk(host_of(machine), limit=300.0)
    jobs.submit("job", "sleep 303")
    jobs.wait("started", "job")
    machine.cut()
    jobs.cancel()
    wait_for(lambda: any("cannot be reached" in note for note in jobs.notes), 60)
    assert machine.named("sleep 303")
    machine.restore()
    wait_for(lambda: not machine.named("sleep 303"), 40)
    wait_for(lambda: not list(jobs.journal.read()), 10)
