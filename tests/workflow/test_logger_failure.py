"""One broken run of several, through Snakemake and the logger plugin: who is told what, and what the next call runs again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SNAKEFILE = """
import json
RUNS = ["als", "parkinsons", "alzheimers", "cardio"]

rule all:
    default_target: True
    input: "results/report.txt", expand("results/aimedres/runs/{run}/metrics.json", run=RUNS)

rule copy_to_local:
    output: "results/{suite}/packs/{dataset}/train.txt"
    log: "logs/copy_to_local/{suite}/{dataset}.log"
    shell: "echo x > {output} 2> {log}"

rule train_model:
    input: "results/{suite}/packs/table/train.txt"
    output: "results/{suite}/runs/{run}/model.txt"
    params: settings=lambda w: json.dumps({"run": w.run, "lr": config.get("lr_" + w.run, 0.001)})
    log: "logs/train_model/{suite}/{run}.log"
    shell: "exec {config[python]} train.py {wildcards.run} {params.settings:q} {output} > {log} 2>&1"

rule evaluate_model:
    input: "results/{suite}/runs/{run}/model.txt"
    output: "results/{suite}/runs/{run}/metrics.json"
    shell: "cp {input} {output}"

rule build_report:
    input: expand("results/aimedres/runs/{run}/metrics.json", run=RUNS)
    output: "results/report.txt"
    shell: "cat {input} > {output}"

onerror:
    with open("seen_by_onerror.json", "w") as file:
        file.write(open("results/summary.json").read())
"""
TRAIN = """
import sys, time, pathlib
run, settings, output = sys.argv[1:]
print("loading", run, flush=True)
if run == "parkinsons":
    while pathlib.Path("hang").exists():
        time.sleep(0.1)
    if pathlib.Path("broken").exists():
        raise SystemExit("error: the table has no column 'status'; known: age, jitter")
pathlib.Path(output).write_text(settings)
"""
JOBS = 1 + 4 + 4 + 1


@pytest.fixture
def yard(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def command(*args, config=()):
    base = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--logger", "trainyard", "--latency-wait", "0"]
    return [*base, *args, "--config", f"python={sys.executable}", *config]


def snakemake(yard, *args, config=()):
    env = {**os.environ, "COLUMNS": "80", "PYTHONUNBUFFERED": "1"}
    return subprocess.run(command(*args, config=config), cwd=yard, capture_output=True, text=True, env=env, timeout=120)


def read_summary(yard, name="results/summary.json"):
    return json.loads((yard / name).read_text())


def states(summary):
    return {(job["rule"], job["run"]): job["state"] for job in summary["jobs"]}


def started_jobs(text):
    """Names of jobs in the lines of a log without a terminal."""
    return re.findall(r"^\d\d:\d\d:\d\d start +(.*?)(?: \(attempt \d+\))?$", text, re.MULTILINE)


def test_one_broken_run_of_four(yard):
    (yard / "broken").touch()
    done = snakemake(yard, "--retries", "1")
    assert done.returncode != 0
    summary = read_summary(yard)

    # All others ended.
    for run in ("als", "alzheimers", "cardio"):
        assert (yard / f"results/aimedres/runs/{run}/metrics.json").exists()
    counts = {k: v for k, v in summary["counts"].items() if v}
    assert counts == {"total": JOBS, "done": 1 + 3 + 3, "failed": 1, "skipped": 2}
    assert summary["state"] == "failed"

    # Which failed, why, on which attempt, and where its log is.
    (failed,) = [job for job in summary["jobs"] if job["state"] == "failed"]
    assert (failed["rule"], failed["suite"], failed["run"], failed["attempts"]) == ("train_model", "aimedres", "parkinsons", 2)
    assert failed["reason"] == "error: the table has no column 'status'; known: age, jitter"
    assert (yard / failed["log"]).read_text().startswith("loading parkinsons")
    assert states(summary)[("evaluate_model", "parkinsons")] == states(summary)[("build_report", None)] == "skipped"

    # The same for people: the table comes last, within 80 columns, and says it first of all.
    table = done.stderr[done.stderr.index("Failed: 1 of 10 jobs") :]
    assert "train_model aimedres/parkinsons  attempt 2" in table
    assert "error: the table has no column 'status'" in table
    assert "log: logs/train_model/aimedres/parkinsons.log" in table
    assert "Not run because of them: 2 jobs" in table
    assert "Done: 7 jobs" in table
    assert "\x1b" not in done.stderr
    assert all(len(line) <= 80 for line in done.stderr.splitlines())
    assert done.stderr.count("again  train_model") == 1

    # The handler that builds a partial report saw the same.
    assert states(read_summary(yard, "seen_by_onerror.json")) == states(summary)

    # Next: exactly the failed one and what depends on it.
    (yard / "broken").unlink()
    again = snakemake(yard, "--retries", "1")
    assert again.returncode == 0
    assert sorted(started_jobs(again.stderr)) == ["build_report", "evaluate_model aimedres/parkinsons", "train_model aimedres/parkinsons"]
    summary = read_summary(yard)
    assert set(states(summary).values()) == {"done"}
    assert len(summary["jobs"]) == JOBS
    assert summary["state"] == "done"

    # And then nothing.
    third = snakemake(yard)
    assert third.returncode == 0
    assert "Nothing to do" in third.stderr
    assert set(states(read_summary(yard)).values()) == {"done"}

    # A dry run says which, why, and what it costs; it changes nothing.
    before = (yard / "results/summary.json").read_bytes()
    dry = snakemake(yard, "--dry-run", config=["lr_cardio=0.01"])
    assert dry.returncode == 0
    assert dry.stdout.startswith("3 jobs would run; ")
    assert "of work at stake" in dry.stdout
    assert re.search(r"train_model  1.*\n  lr: 0.001 → 0.01\n    aimedres: cardio\n", dry.stdout)
    assert len(dry.stdout.splitlines()) < 20
    assert (yard / "results/summary.json").read_bytes() == before


def test_killed_without_a_word_the_next_start_says_interrupted(yard):
    (yard / "hang").touch()
    process = subprocess.Popen(command("--no-hooks"), cwd=yard, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            path = yard / "results/summary.json"
            if path.exists() and states(read_summary(yard)).get(("train_model", "parkinsons")) == "running":
                break
            time.sleep(0.1)
        else:
            pytest.fail("the training was never seen running in the summary")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    look = subprocess.run([Path(sys.executable).with_name("trainyard"), "status"], cwd=yard, capture_output=True, text=True)
    assert look.returncode == 1
    assert "Last call of snakemake: dead" in look.stdout

    # A later call for another run says how the other one ended.
    only = snakemake(yard, "results/aimedres/runs/als/metrics.json", "--rerun-incomplete", "--nolock")
    assert only.returncode == 0
    assert states(read_summary(yard))[("train_model", "parkinsons")] == "interrupted"


def test_a_mistake_in_the_workflow_is_told_plainly(yard):
    (yard / "Snakefile").write_text('rule a:\n    input: "not_there.csv"\n    output: "b"\n    shell: "true"\n')
    done = snakemake(yard)
    assert done.returncode == 1
    assert "error: MissingInputException" in done.stderr
    assert "not_there.csv" in done.stderr
    assert not (yard / "results").exists()
