"""The slurm profile on a real Slurm of two virtual nodes: to the end, through time limits, a dead node and Ctrl+C, without loss."""

import re
import shutil
import tempfile
from pathlib import Path

import pytest
from slurm_calls import PATIENCE, RUNS, Call, Training, models
from slurm_cluster import PACKAGES, ask, running_cluster, wait_for

# Three optimiser steps an epoch: hundreds of epochs take seconds, and a checkpoint comes with every second one.
SMALL = ("only=als", "folds=2", "subset_size=200", "epochs=400")
# Slurm warns up to half a minute early: of a minute, this leaves a training its first 20 seconds.
ONE_MINUTE = ("--default-resources", "mem_mb=1000", "runtime=1", "slurm_extra='--signal=TERM@10'", "--retries", "6")
SECONDS = ("--trainyard-slurm-init-seconds-before-status-checks", "2")


@pytest.fixture(scope="module")
def cluster(debian):
    debian(*PACKAGES)
    folder = Path(tempfile.mkdtemp(prefix="trainyard-slurm-"))
    try:
        with running_cluster(folder) as found:
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def call():
    """Starts calls, and ends those that a failing test leaves."""
    started: list[Call] = []

    def start(*args, **options) -> Call:
        started.append(Call(*args, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The two trainings as they are on this machine, without Slurm."""
    folder = tmp_path_factory.mktemp("undisturbed")
    local = Call(folder, *models(*RUNS), profile=None, config=(*SMALL, "gpu_slots=1"))
    try:
        assert local.wait() == 0, local.log()[-3000:]
    finally:
        local.close()
    return folder


@pytest.fixture
def untrained(undisturbed, tmp_path) -> Path:
    """A folder where everything is done but the trainings."""
    folder = tmp_path / "work"
    shutil.copytree(undisturbed, folder)
    for name in ("results/aimedres/runs", "checkpoints", "logs"):
        shutil.rmtree(folder / name)
    return folder


@pytest.fixture
def scripts(tmp_path):
    """Found scripts, as a folder for the configuration."""

    def write(**sources: str) -> tuple[str, str]:
        folder = tmp_path / "scripts"
        folder.mkdir()
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(source)
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(f"aimedres: {{discover: {{root: {folder}, minutes: 3}}}}\n")
        return "--configfile", str(overlay)

    return write


FLAKY = """
import os, pathlib
mark = pathlib.Path(__file__).with_suffix(".mark")
if not mark.exists():
    mark.write_text(os.environ["TRAINYARD_LOCAL_DISK"])
    raise SystemExit(3)
"""


def test_a_suite_to_the_end_with_a_job_that_fails_once(cluster, call, scripts, tmp_path):
    overlay = scripts(train_flaky=FLAKY)
    folder = tmp_path / "work"
    folder.mkdir()
    limits = ("--resources", "mem_mb=2000", "runtime=45", "--trainyard-slurm-local-dir", "/scratch/$USER")
    suite = call(folder, *overlay, *SECONDS, *limits, config=("only=als,train_flaky", "folds=2", "epochs=2", "subset_size=200"))
    assert suite.wait() == 0, suite.log()[-3000:]
    for name in ("aimedres/runs/als-fold1/metrics.json", "aimedres/comparison.csv", "report/index.html"):
        assert (folder / "results" / name).exists(), name
    sent = set(re.findall(r"slurm_logs/rule_(\w+)/", suite.log()))
    assert {"copy_to_local_folds", "preflight_check", "train_model", "fit_baselines", "run_script"} <= sent
    assert not {r for r in sent if r.startswith(("index", "split", "evaluate", "compare", "build_report"))}, (
        "light rules stay on the submitting host"
    )
    tries = [job for job in cluster.jobs("--states=all") if job["comment"].endswith("_train_flaky")]
    told = [(job["state"], job["memory"]) for job in sorted(tries, key=lambda job: int(job["id"]))]
    assert told == [("FAILED", "1500M"), ("COMPLETED", "2000M")], "each try asks for half as much again, up to the most there is"
    assert {job["limit"] for job in cluster.jobs("--states=all") if "train_model" in job["comment"]} == {"45:00"}
    assert (tmp_path / "scripts/train_flaky.mark").read_text() == "/scratch/$USER", "each node puts its own value in"


def test_a_time_limit_and_a_dead_node_in_the_middle_of_training_cost_nothing(cluster, call, undisturbed, untrained):
    overlay = untrained / "overlay.yaml"
    overlay.write_text("aimedres: {models: {als: {runtime: 1}}}\n")
    run = call(untrained, *models(*RUNS), *ONE_MINUTE, *SECONDS, "--configfile", str(overlay), config=SMALL)
    trainings = {name: Training(untrained, name) for name in RUNS}
    assert wait_for(lambda: all(cluster.job_of(name).get("state") == "RUNNING" for name in RUNS), PATIENCE), run.log()
    where = {cluster.job_of(name)["node"]: name for name in RUNS}
    assert set(where) == {"n1", "n2"}
    limited, unlucky = trainings[where["n1"]], trainings[where["n2"]]
    for training in (unlucky, limited):
        training.freeze_after_a_checkpoint()

    job = cluster.job_of(unlucky.run)["id"]
    cluster.kill_node("n2")
    # Slurm's warning comes with a SIGCONT: what stood still goes on, and leaves.
    assert wait_for(lambda: "stopped: received SIGTERM" in limited.logs()[0], PATIENCE), "Slurm's warning does not reach the trainer"
    assert wait_for(lambda: cluster.state("n2") == "down" and cluster.job_of(unlucky.run).get("state") == "PENDING", PATIENCE)
    cluster.start_node("n2")
    ask("scontrol", "update", f"jobid={job}", "StartTime=now")  # Slurm lets a requeued job wait for two minutes

    assert run.wait(2 * PATIENCE) == 0, run.log()[-3000:]
    assert "Restarts=1" in ask("scontrol", "show", "job", job)
    for training in trainings.values():
        steps = [int(found[1]) for log in training.logs() if (found := re.search(r"resuming at step (\d+)", log))]
        assert len(training.logs()) >= 2 and steps and steps[0] > 0, training.logs()
        assert training.result() == Training(undisturbed, training.run).result(), "not the bits of a training that nothing happened to"


def test_no_job_is_left_after_one_ctrl_c_or_two_and_a_killed_controller_costs_nothing(cluster, call, undisturbed, untrained):
    first, second = (Training(untrained, name) for name in RUNS)
    target = models(*RUNS)
    more = (*SECONDS, "--rerun-incomplete")

    once = call(untrained, *target, *more, config=SMALL)
    first.freeze_after_a_checkpoint()
    once.interrupt()
    first.thaw()
    assert once.wait(60) != 0
    assert not cluster.jobs() or {job["state"] for job in cluster.jobs()} == {"COMPLETING"}, once.log()
    assert "stopped: received SIGTERM" in first.newest_log() and not first.alive() and not second.alive()

    twice = call(untrained, *target, *more, config=SMALL)
    assert wait_for(lambda: len(first.logs()) == 2, PATIENCE)
    first.freeze_after_a_checkpoint()
    twice.interrupt()
    assert wait_for(lambda: "have 90 s to save" in twice.log(), 30)
    twice.interrupt()
    assert twice.wait(30) != 0, "the second Ctrl+C does not wait"
    assert cluster.job_of(first.run), "what stands still cannot have left yet"
    first.thaw()
    assert wait_for(lambda: not cluster.jobs(), 60), cluster.jobs()
    assert "Traceback" not in twice.log() and not first.alive()

    killed = call(untrained, *target, *more, config=SMALL)
    assert wait_for(lambda: len(first.logs()) == 3, PATIENCE)
    first.freeze_after_a_checkpoint()
    killed.kill()
    assert wait_for(lambda: not cluster.job_of(second.run), PATIENCE) and cluster.job_of(first.run), "its jobs go on to their end"
    tries = len(second.logs())
    unlock = call(untrained, "--unlock", *target, profile=None, config=SMALL)
    assert unlock.wait() == 0
    again = call(untrained, *target, *more, config=SMALL)
    assert wait_for(lambda: "of an earlier call" in again.log(), PATIENCE)
    first.thaw()
    assert again.wait() == 0, again.log()[-3000:]
    assert not cluster.jobs() or {job["state"] for job in cluster.jobs()} == {"COMPLETING"}
    assert len(second.logs()) == tries, "what ended well meanwhile counts"
    for training in (first, second):
        assert training.result() == Training(undisturbed, training.run).result()


MEET = """
import os, pathlib, time
mine = pathlib.Path(__file__).with_suffix(".gpu")
mine.write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
for _ in range(600):
    if len(list(mine.parent.glob("*.gpu"))) == 2:
        break
    time.sleep(0.1)
else:
    raise SystemExit("the other job did not run beside this one")
"""


def test_two_gpu_jobs_share_two_gpus_each_with_its_own(cluster, call, scripts, tmp_path):
    overlay = scripts(train_one=MEET, train_two=MEET)
    partitions = tmp_path / "partitions.yaml"
    partitions.write_text("partitions:\n  main: {max_runtime: 60, max_gpu: 0}\n  gpu: {max_runtime: 60, max_gpu: 2}\n")
    folder = tmp_path / "work"
    folder.mkdir()
    target = [f"results/aimedres/runs/train_{name}/metrics.json" for name in ("one", "two")]
    # A limit of runtime that is one job's, not that of both together.
    limits = ("--resources", "runtime=6", "--set-resources", "run_script:gpu=1", "--retries", "0")
    more = (*limits, "--trainyard-slurm-partition-config", str(partitions))
    both = call(folder, *target, *overlay, *SECONDS, *more, config=("only=train_*",))
    assert both.wait() == 0, both.log()[-3000:]
    assert sorted(path.read_text() for path in (tmp_path / "scripts").glob("*.gpu")) == ["0", "1"]
    jobs = [job for job in cluster.jobs("--states=all") if job["comment"].endswith(("_train_one", "_train_two"))]
    assert {job["partition"] for job in jobs} == {"gpu"} and {job["node"] for job in jobs} == {"n1"}
