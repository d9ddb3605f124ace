"""Faults of jobs and hosts, on real sshd: each ends in a correct result or one clear message."""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from desk import Desk, wait_for
from snakemake_executor_plugin_ssh.hosts import Host


def host_of(machine, **values) -> Host:
    return Host(machine.name, **{"cores": 4, "python": sys.executable, "workdir": str(machine.home / "work"), **values})


@pytest.fixture
def desk(network):
    """A function that makes a desk for some hosts."""
    made = []

    def make(*hosts: Host, **options) -> Desk:
        made.append(Desk(network, list(hosts), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


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


def test_the_link_is_cut_and_comes_back(network, desk):
    """Unknown is not dead: the job goes on, and is not started again."""
    machine = network.add()
    jobs = desk(host_of(machine), limit=120.0)
    jobs.submit("job", "echo begin; sleep 25; echo end")
    jobs.wait("started", "job")
    machine.cut()
    wait_for(lambda: any("cannot be reached" in note for note in jobs.notes), 60)
    assert not [event for event in jobs.tick() if event.kind in ("lost", "failed")]
    machine.restore()
    assert jobs.wait("finished", "job").status["tail"] == "begin\nend\n"
    assert sum(event.kind == "started" for event in jobs.events) == 1


def test_a_late_result_cannot_be_handed_in(network, desk, tmp_path):
    """Cut off for longer than the limit: the job is started elsewhere, after the first attempt was stopped by its own host."""
    first, second = network.add(), network.add()
    jobs = desk(host_of(first), host_of(second), limit=24.0, shared=False)
    tell = f">> {tmp_path}/story"
    command = f"echo $SNAKEMAKE_SSH_TOKEN begins {tell}; for i in $(seq 60); do sleep 0.5; done; echo $SNAKEMAKE_SSH_TOKEN ends {tell}"
    jobs.submit("job", command)
    began_on = jobs.wait("started", "job").host
    machine = {first.name: first, second.name: second}[began_on]
    attempt = jobs.attempt("job")
    machine.cut()
    lost = jobs.wait("lost", "job", 60)
    assert lost.token == attempt.token
    # The old one stands still by now, though its host heard nothing.
    states = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in machine.named("seq 60")]
    assert states and set(states) == {"T"}
    finished = jobs.wait("finished", "job", 60)
    assert finished.host != began_on and finished.token != attempt.token
    machine.restore()
    wait_for(lambda: not machine.named("seq 60"), 60)
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
