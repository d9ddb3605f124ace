"""Faults of whole runs: Snakemake, hosts that share nothing with it, and an object store that they reach through the connection."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from desk import wait_for
from network import delayed, fill
from store import SECRET

SHORT_AND_A_MINUTE = pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.slow)])


@SHORT_AND_A_MINUTE
def test_the_link_is_cut_when_a_job_ends(network, store, project, seconds):
    """The job ends while nobody can be reached; what it made arrives when the link is back. Nothing runs twice."""
    machine = network.add()
    runs = project([machine], store)
    runs.start()
    runs.until_begun()
    machine.cut()
    runs.go.touch()
    wait_for(lambda: len(runs.story()) == 2, 60)
    time.sleep(seconds)
    assert not (store.bucket / "out" / "0.txt").exists()
    machine.restore()
    assert runs.result(150) == 0, runs.said[-3000:]
    (begin, end) = runs.story()
    assert (begin[0], end[0]) == ("begin", "end") and (store.bucket / "out" / "0.txt").read_text().strip() == begin[1] == end[1]
    assert not runs.attempts()


@SHORT_AND_A_MINUTE
def test_the_link_is_cut_during_an_upload(network, store, project, seconds):
    """In the midst of it, as the bytes on the wire say; it goes on, and what arrives is whole."""
    machine = network.add()
    made = """
rule all:
    input: "out/big"
rule big:
    output: "out/big"
    shell: "(yes $SNAKEMAKE_SSH_TOKEN || true) | head -c 24000000 > {output}; echo end $SNAKEMAKE_SSH_TOKEN >> %s"
"""
    runs = project([machine], store, made % (network.folder / "story"))
    machine.throttle(24)
    runs.start()
    wait_for(lambda: runs.story(), 60)
    before = machine.sent()
    wait_for(lambda: machine.sent() > before + 5_000_000, 60)
    machine.cut()
    time.sleep(seconds)
    assert machine.sent() < before + 22_000_000 and not (store.bucket / "out" / "big").exists()
    machine.throttle(1000)
    machine.restore()
    assert runs.result(150) == 0, runs.said[-3000:]
    (end,) = runs.story()
    content = (store.bucket / "out" / "big").read_text()
    assert len(content) == 24_000_000 and set(content.splitlines()[:-1]) == {end[1]}


def test_two_hundred_milliseconds_in_a_run(network, store, project):
    """Sources, jobs and their files go through a relay that delays every byte by 100 ms each way."""
    machine = network.add(delayed(0.1))
    runs = project([machine], store, jobs=2)
    runs.go.touch()
    assert runs.run(seconds=150) == 0, runs.said[-3000:]
    assert "cannot be reached" not in runs.said
    assert {(store.bucket / "out" / f"{i}.txt").read_text().strip() for i in range(2)} == {who for _, who in runs.story()}


def test_a_host_is_gone_for_good(network, store, project):
    """Its job is started on another host, without using up a retry, and what the host leaves behind counts for nothing."""
    machines = [network.add(), network.add()]
    runs = project(machines, store, minutes=0.2)
    runs.start()
    runs.until_begun()
    next(machine for machine in machines if machine.named("until", str(runs.go))).die()
    runs.until_said("it starts elsewhere", 60)
    runs.go.touch()
    assert runs.result(60) == 0, runs.said[-3000:]
    assert "was given up" in runs.said
    told = runs.story()
    assert [word for word, _ in told] == ["begin", "begin", "end"]
    assert (store.bucket / "out" / "0.txt").read_text().strip() == told[-1][1] == told[1][1] != told[0][1]


@pytest.mark.parametrize("seconds", [13, pytest.param(60, marks=pytest.mark.slow)])
def test_the_controller_stands_still(network, store, project, seconds):
    """Stopped for longer than hosts are waited for, with its connections, as by Ctrl+Z or a lid: no host is given up for that."""
    machine = network.add()
    runs = project([machine], store, minutes=0.2)
    runs.start()
    runs.until_begun()
    runs.signal_all(signal.SIGSTOP)
    time.sleep(seconds)
    runs.signal_all(signal.SIGCONT)
    time.sleep(3)
    runs.go.touch()
    assert runs.result(90) == 0, runs.said[-3000:]
    assert "given up" not in runs.said and [word for word, _ in runs.story()] == ["begin", "end"]


def test_the_controller_is_killed_and_takes_its_jobs_up_again(network, store, project):
    """Whether Snakemake is told to run incomplete jobs again or not."""
    machine = network.add()
    runs = project([machine], store, jobs=2)
    runs.start()
    runs.until_begun(2)
    runs.kill()
    runs.unlock()
    runs.start("--rerun-incomplete")
    runs.until_said("goes on: attempt", times=2)
    runs.go.touch()
    assert runs.result(60) == 0, runs.said[-3000:]
    assert sorted(word for word, _ in runs.story()) == ["begin", "begin", "end", "end"]


def test_the_controllers_disk_is_full_in_a_run(network, store, project, small_disk):
    """No record can be written any more: the run says so and ends; with room again the next one finishes it."""
    disk = small_disk("project", 6)
    machine = network.add()
    runs = project([machine], store, jobs=3)
    runs.start()
    runs.until_begun(2)  # the third waits for a core
    filler = fill(disk)
    runs.go.touch()
    assert runs.result(90) != 0
    assert "No space left on device" in runs.said, runs.said[-3000:]
    filler.unlink()
    runs.unlock()
    assert runs.run("--rerun-incomplete") == 0, runs.said[-3000:]
    told = runs.story()
    assert {(store.bucket / "out" / f"{i}.txt").read_text().strip() for i in range(3)} <= {who for word, who in told if word == "end"}
    assert not runs.attempts() and not machine.named("until", str(runs.go))


def test_cancelled_while_a_host_is_away(network, store, project):
    """Ctrl+C ends within seconds and says what stays behind; the job is ended when its host is back, though no run is there any more."""
    machine = network.add()
    runs = project([machine], store)
    runs.start()
    runs.until_begun()
    machine.cut()
    os.kill(runs.process.pid, signal.SIGINT)
    assert runs.result(60) != 0
    assert "goes on trying" in runs.said and machine.named("until", str(runs.go))
    machine.restore()
    wait_for(lambda: not machine.named("until", str(runs.go)), 90)
    wait_for(lambda: not runs.attempts(), 20)
    log = (runs.folder / ".snakemake" / "ssh" / "cancel.log").read_text
    wait_for(lambda: "nothing is left" in log(), 30)


@pytest.mark.parametrize("skew", ["+1h", "-1h"])
def test_a_hosts_clock_is_an_hour_off(network, store, project, skewed, skew):
    """A store takes nothing that is signed at another time, so this host gets no work and is told why; another does it."""
    machine, other = network.add(environment=skewed(skew)), network.add()
    runs = project([machine, other], store, jobs=3)
    runs.go.touch()
    assert runs.run() == 0, runs.said[-3000:]
    ahead = "1 h 0 min ahead of" if skew == "+1h" else "1 h 0 min behind"
    assert f"host {machine.name} cannot be used: its clock is {ahead} this machine's" in runs.said and "timedatectl" in runs.said
    assert runs.said.count(f"runs on host {other.name}") == 3 and "runs on host " + machine.name not in runs.said


def test_secrets_and_odd_files(network, store, project):
    """Values of variables are nowhere on a disk or a command line; sources that git does not know go along; names may be anything."""
    machine = network.add()
    odd = 'it\'s $(touch owned) "q";&'
    snakefile = f"""
envvars: "MY_SECRET"
rule all:
    input: "out/a.txt"
rule a:
    output: "out/a.txt"
    params: name={odd!r}
    shell: "cat {{params.name:q}} > {{output}}; test -n \\"$MY_SECRET\\"; ps axww > {network.folder}/ps; sleep 1"
"""
    runs = project([machine], store, snakefile)
    runs.environment["MY_SECRET"] = "anothersecret815"
    (runs.folder / odd).write_text("content of an odd file\n")
    subprocess.run(["git", "init", "-q"], cwd=runs.folder, check=True, timeout=30)
    (runs.folder / ".gitignore").write_text(".snakemake/\n")
    assert runs.run() == 0, runs.said[-3000:]
    assert (store.bucket / "out" / "a.txt").read_text() == "content of an odd file\n"
    assert not list(network.folder.rglob("owned"))
    for secret in ("anothersecret815", SECRET):
        found = subprocess.run(
            ["grep", "-rl", secret, str(runs.folder), str(machine.home), runs._log], capture_output=True, text=True, timeout=60
        )
        assert not found.stdout
    # rclone itself is given the key on its command line by this test's store; the other must be nowhere.
    assert "anothersecret815" not in (network.folder / "ps").read_text()


def test_two_controllers_in_one_folder(network, store, project):
    """The second refuses, though it was told to do without Snakemake's own lock; the first is not disturbed."""
    machine = network.add()
    runs = project([machine], store)
    runs.start()
    runs.until_begun()
    second = subprocess.run(
        [sys.executable, "-m", "snakemake", *runs.arguments, "--nolock", "--forceall"],
        cwd=runs.folder, env=runs.environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert second.returncode != 0 and "another snakemake is running jobs over ssh from this folder" in second.stderr
    runs.go.touch()
    assert runs.result() == 0, runs.said[-3000:]
    assert [word for word, _ in runs.story()] == ["begin", "end"]


def test_a_changed_workflow_does_not_take_over_old_attempts(network, store, project):
    """What a killed controller left running is ended first when the sources have changed since."""
    machine = network.add()
    runs = project([machine], store)
    runs.start()
    runs.until_begun()
    runs.kill()
    there = network.folder / "there"
    there.touch()
    (runs.folder / "Snakefile").write_text(runs.train(1, there))
    runs.unlock()
    assert runs.run("--rerun-incomplete") == 0, runs.said[-3000:]
    told = runs.story()
    assert [word for word, _ in told] == ["begin", "begin", "end"] and told[1][1] == told[2][1] != told[0][1]
    assert not machine.named("until", str(runs.go))
    assert json.loads((runs.folder / ".snakemake" / "ssh" / "hosts.json").read_text())["hosts"][0]["name"] == machine.name


def test_the_folder_is_named_by_a_flag(network, store, project):
    """`--directory` is this machine's folder; jobs elsewhere have their own."""
    machine = network.add()
    runs = project([machine], store)
    runs.go.touch()
    above = [*runs.arguments, "-s", "project/Snakefile", "--directory", "project"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *above], cwd=network.folder, env=runs.environment, capture_output=True, text=True, timeout=90,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (store.bucket / "out" / "0.txt").exists() and (runs.folder / ".snakemake" / "ssh").is_dir()


def test_no_host_can_be_used(network, store, project):
    """One message for the whole run, with what to do for each host, before any job has used up its retries."""
    machines = [network.add(), network.add()]
    runs = project(machines, store, jobs=3)
    assert runs.run("--ssh-python", "/nowhere/bin/python", "--retries", "3", "--keep-going") != 0
    assert runs.said.count("no host can be used:") == 1 and "Traceback" not in runs.said, runs.said[-3000:]
    assert all(f"{machine.name}: it has no environment for jobs at /nowhere/bin/python" in runs.said for machine in machines)
    assert "Trying to restart" not in runs.said and not runs.story()


def test_a_limit_too_short_to_tell_is_refused(network, project):
    runs = project([network.add()], None, minutes=0.05)
    assert runs.run() != 0
    assert "--ssh-unreachable-minutes 0.05 is 3 seconds" in runs.said and "Traceback" not in runs.said
