"""Faults of whole runs: Snakemake, hosts that share nothing with it, and an object store that they reach through the connection."""

import json
import os
import signal
import subprocess
import sys
import time

from desk import wait_for
from store import SECRET

# A job that takes some seconds, tells when it begins and goes on, and hands in who made it.
TRAIN = """
rule all:
    input: expand("out/{{i}}.txt", i=range({jobs}))

rule train:
    output: "out/{{i}}.txt"
    shell:
        "echo begin $SNAKEMAKE_SSH_TOKEN >> {story}; for i in $(seq {steps}); do sleep 0.5; done; "
        "echo end $SNAKEMAKE_SSH_TOKEN >> {story}; echo $SNAKEMAKE_SSH_TOKEN > {{output}}"
"""


def train(network, jobs: int = 1, seconds: float = 5) -> str:
    return TRAIN.format(jobs=jobs, story=network.folder / "story", steps=int(2 * seconds))


def story(network) -> list[list[str]]:
    path = network.folder / "story"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_the_link_is_cut_during_a_job_and_its_upload(network, store, project):
    """The job ends while nobody can be reached; what it made arrives when the link is back. Nothing runs twice."""
    machine = network.add()
    runs = project([machine], store, train(network, seconds=8))
    runs.start()
    wait_for(lambda: story(network), 60)
    machine.cut()
    wait_for(lambda: len(story(network)) == 2, 60)
    time.sleep(18)
    assert not (store.bucket / "out" / "0.txt").exists()
    machine.restore()
    assert runs.result(120) == 0, runs.said[-3000:]
    (begin, end) = story(network)
    assert (begin[0], end[0]) == ("begin", "end") and (store.bucket / "out" / "0.txt").read_text().strip() == begin[1] == end[1]
    assert not list((runs.folder / ".snakemake" / "ssh" / "attempts").iterdir())


def test_a_host_is_gone_for_good(network, store, project):
    """Its job is started on another host, without using up a retry, and what the host leaves behind counts for nothing."""
    machines = [network.add(), network.add()]
    runs = project(machines, store, train(network, seconds=6), minutes=0.4)
    runs.start()
    wait_for(lambda: story(network), 60)
    next(machine for machine in machines if machine.named("seq 12")).die()
    assert runs.result(150) == 0, runs.said[-3000:]
    assert "was given up" in runs.said and "it starts elsewhere" in runs.said
    told = story(network)
    assert [word for word, _ in told] == ["begin", "begin", "end"]
    assert (store.bucket / "out" / "0.txt").read_text().strip() == told[-1][1] == told[1][1] != told[0][1]


def test_the_controller_is_killed_and_takes_its_jobs_up_again(network, store, project):
    """Whether Snakemake is told to run incomplete jobs again or not."""
    machine = network.add()
    runs = project([machine], store, train(network, jobs=2, seconds=14))
    runs.start()
    wait_for(lambda: len(story(network)) == 2, 60)
    runs.kill()
    subprocess.run([sys.executable, "-m", "snakemake", "--unlock"], cwd=runs.folder, timeout=60, check=True, capture_output=True)
    assert runs.run("--rerun-incomplete", seconds=120) == 0, runs.said[-3000:]
    assert runs.said.count("goes on: attempt") == 2
    assert sorted(word for word, _ in story(network)) == ["begin", "begin", "end", "end"]


def test_cancelled_while_a_host_is_away(network, store, project):
    """Ctrl+C ends within seconds and says what stays behind; the job is ended when its host is back, though no run is there any more."""
    machine = network.add()
    runs = project([machine], store, train(network, seconds=300))
    runs.start()
    wait_for(lambda: story(network), 60)
    machine.cut()
    os.kill(runs.process.pid, signal.SIGINT)
    assert runs.result(60) != 0
    assert "goes on trying" in runs.said and machine.named("seq 600")
    machine.restore()
    wait_for(lambda: not machine.named("seq 600"), 90)
    wait_for(lambda: not list((runs.folder / ".snakemake" / "ssh" / "attempts").iterdir()), 20)
    log = (runs.folder / ".snakemake" / "ssh" / "cancel.log").read_text
    wait_for(lambda: "nothing is left" in log(), 30)


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
    runs = project([machine], store, train(network, seconds=12))
    runs.start()
    wait_for(lambda: story(network), 60)
    second = subprocess.run(
        [sys.executable, "-m", "snakemake", *runs.arguments, "--nolock", "--forceall"],
        cwd=runs.folder, env=runs.environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert second.returncode != 0 and "another snakemake is running jobs over ssh from this folder" in second.stderr
    assert runs.result() == 0, runs.said[-3000:]
    assert [word for word, _ in story(network)] == ["begin", "end"]


def test_a_changed_workflow_does_not_take_over_old_attempts(network, store, project):
    """What a killed controller left running is ended first when the sources have changed since."""
    machine = network.add()
    runs = project([machine], store, train(network, seconds=200))
    runs.start()
    wait_for(lambda: story(network), 60)
    runs.kill()
    (runs.folder / "Snakefile").write_text(train(network, seconds=1))
    subprocess.run([sys.executable, "-m", "snakemake", "--unlock"], cwd=runs.folder, timeout=60, check=True, capture_output=True)
    assert runs.run("--rerun-incomplete") == 0, runs.said[-3000:]
    told = story(network)
    assert [word for word, _ in told] == ["begin", "begin", "end"] and told[1][1] == told[2][1] != told[0][1]
    assert not machine.named("seq 400")
    assert json.loads((runs.folder / ".snakemake" / "ssh" / "hosts.json").read_text())["hosts"][0]["name"] == machine.name
