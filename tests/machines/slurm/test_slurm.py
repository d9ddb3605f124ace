"""The slurm profile on a real Slurm of two virtual nodes: to the end, through time limits, a dead node and Ctrl+C, without loss."""

import re
import time

from slurm_calls import PATIENCE, RUNS, SECONDS, SMALL, Training, models, status
from slurm_processes import ask, wait_for

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
    overlay.write_text("aimedres: {models: {als: {runtime: 30}}}\n")
    run = call(untrained, *models(*RUNS), *SECONDS, "--configfile", str(overlay), config=SMALL)
    trainings = {name: Training(untrained, name) for name in RUNS}
    assert wait_for(lambda: all(cluster.job_of(name).get("state") == "RUNNING" for name in RUNS), PATIENCE), run.log()
    where = {cluster.job_of(name)["node"]: name for name in RUNS}
    assert set(where) == {"n1", "n2"}
    limited, unlucky = trainings[where["n1"]], trainings[where["n2"]]
    for training in (unlucky, limited):
        training.freeze_after_a_checkpoint()

    job = cluster.job_of(unlucky.run)["id"]
    assert cluster.job_of(limited.run)["limit"] == "30:00"
    cluster.let_end_soon(cluster.job_of(limited.run)["id"])
    cluster.kill_node("n2")
    # Slurm's warning comes with a SIGCONT: what stood still goes on, and leaves.
    assert wait_for(lambda: "stopped: received SIGTERM" in limited.logs()[0], PATIENCE), "Slurm's warning does not reach the trainer"
    assert wait_for(lambda: cluster.restarts(job) == 1, PATIENCE), "Slurm does not take it back into the queue"
    cluster.start_node("n2")
    assert wait_for(lambda: cluster.state("n2") == "idle", PATIENCE)
    ask("scontrol", "update", f"jobid={job}", "StartTime=now")  # Slurm lets a requeued job wait for two minutes

    assert run.wait(2 * PATIENCE) == 0, run.log()[-3000:]
    tries = sorted((j for j in cluster.jobs("--states=all") if j["comment"].endswith(f"_{limited.run}")), key=lambda j: int(j["id"]))
    assert [j["limit"] for j in tries[-1:]] == ["1:00:00"], "the next try may take longer"
    assert cluster.restarts(job) == 1
    for training in trainings.values():
        steps = [int(found[1]) for log in training.logs() if (found := re.search(r"resuming at step (\d+)", log))]
        assert len(training.logs()) >= 2 and steps and steps[0] > 0, training.logs()
        assert training.result() == Training(undisturbed, training.run).result(), "not the bits of a training that nothing happened to"


def test_no_job_is_left_after_one_ctrl_c_or_two(cluster, call, untrained):
    first, second = (Training(untrained, name) for name in RUNS)
    target = (*models(*RUNS), *SECONDS)

    once = call(untrained, *target, config=SMALL)
    first.freeze_after_a_checkpoint()
    once.interrupt()
    assert wait_for(first.asked_to_leave, PATIENCE), once.log()
    first.thaw()
    assert once.wait() != 0
    assert nothing_left(cluster), once.log()
    assert "stopped: received SIGTERM" in first.newest_log() and not first.alive() and not second.alive()

    twice = call(untrained, *target, config=SMALL)
    first.freeze_after_a_checkpoint()
    assert len(first.logs()) == 2
    twice.interrupt()
    assert wait_for(lambda: "have 90 s to save" in twice.log(), PATIENCE)
    twice.interrupt()
    assert twice.wait() != 0
    assert cluster.job_of(first.run), "the second Ctrl+C does not wait: what stands still cannot have left yet"
    first.thaw()
    assert wait_for(lambda: not cluster.jobs(), PATIENCE), cluster.jobs()
    assert "Traceback" not in twice.log() and not first.alive()

    at_once = call(untrained, *target, config=SMALL)
    first.freeze_after_a_checkpoint()
    assert len(first.logs()) == 3
    at_once.interrupt()
    time.sleep(0.05)  # as quick as fingers are
    at_once.interrupt()
    assert at_once.wait() != 0
    assert wait_for(first.asked_to_leave, PATIENCE), "who was pressed to go at once asks them all the same"
    first.thaw()
    assert wait_for(lambda: not cluster.jobs(), PATIENCE) and not first.alive()


def test_a_killed_controller_costs_nothing_and_no_run_is_sent_twice(cluster, call, undisturbed, untrained):
    first, second = (Training(untrained, name) for name in RUNS)
    baselines = [f"results/aimedres/runs/{name}/baselines.parquet" for name in RUNS]
    target = (*models(*RUNS), *baselines, *SECONDS)

    killed = call(untrained, *target, "--set-resources", "fit_baselines:slurm_extra='--hold'", config=SMALL)
    first.freeze_after_a_checkpoint()
    assert wait_for(lambda: len(cluster.jobs_of("fit_baselines", "PENDING")) == 2, PATIENCE), killed.log()
    killed.kill()
    assert wait_for(lambda: not cluster.job_of(second.run), PATIENCE), "what runs goes on to its end"
    assert cluster.job_of(first.run) and len(cluster.jobs_of("fit_baselines", "PENDING")) == 2
    tries = len(second.logs())

    again = call(untrained, *target, config=SMALL)
    assert wait_for(first.asked_to_leave, PATIENCE), again.log()
    assert wait_for(lambda: not cluster.jobs_of("fit_baselines", "PENDING"), PATIENCE), "what waited leaves the queue"
    assert [job["id"] for job in cluster.jobs()] == [cluster.job_of(first.run)["id"]], "nothing is sent while the earlier call has a job"
    first.thaw()
    assert again.wait() == 0, again.log()[-3000:]
    assert nothing_left(cluster)
    states = sorted(job["state"] for job in cluster.jobs_of("fit_baselines"))
    assert states == ["CANCELLED", "CANCELLED", "COMPLETED", "COMPLETED"]
    assert len(second.logs()) == tries, "what ended well meanwhile counts"
    assert len(first.logs()) == 2 and re.search(r"resuming at step [1-9]", first.newest_log())
    for training in (first, second):
        assert training.result() == Training(undisturbed, training.run).result()


def nothing_left(cluster) -> bool:
    """No job waits or runs; the node of one may still be cleaning up."""
    return {job["state"] for job in cluster.jobs()} <= {"COMPLETING"}


MEET = """
import os, pathlib, time
mine = pathlib.Path(__file__).with_suffix(".gpu")
mine.write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
end = time.monotonic() + 280
while len(list(mine.parent.glob("*.gpu"))) < 2:
    if time.monotonic() > end:
        raise SystemExit("the other job did not run beside this one")
    time.sleep(0.1)
"""


def test_two_gpu_jobs_share_two_gpus_each_with_its_own(cluster, call, scripts, tmp_path):
    overlay = scripts(train_one=MEET, train_two=MEET)
    partitions = tmp_path / "partitions.yaml"
    partitions.write_text("partitions:\n  main: {max_runtime: 60, max_gpu: 0}\n  gpu: {max_runtime: 60, max_gpu: 2}\n")
    folder = tmp_path / "work"
    folder.mkdir()
    target = [f"results/aimedres/runs/train_{name}/metrics.json" for name in ("one", "two")]
    # A limit of runtime that is one job's, not that of both together.
    limits = ("--resources", "runtime=10", "--set-resources", "run_script:gpu=1", "--retries", "0")
    more = (*limits, "--trainyard-slurm-partition-config", str(partitions))
    both = call(folder, *target, *overlay, *SECONDS, *more, config=("only=train_*",))
    assert both.wait() == 0, both.log()[-3000:]
    assert sorted(path.read_text() for path in (tmp_path / "scripts").glob("*.gpu")) == ["0", "1"]
    jobs = [job for job in cluster.jobs("--states=all") if job["comment"].endswith(("_train_one", "_train_two"))]
    assert {job["partition"] for job in jobs} == {"gpu"} and {job["node"] for job in jobs} == {"n1"}


def test_packs_on_a_network_are_read_from_the_disk_of_the_node(cluster, call, undisturbed, untrained, far_packs, tmp_path):
    """The first run finds the disk by $SLURM_TMPDIR, the second by the profile's option, in which each node puts its own name."""
    option = ("--trainyard-slurm-local-dir", f"{tmp_path}/$SLURMD_NODENAME")
    for run, more in zip(RUNS, ((), option)):
        one = call(untrained, *models(run), *SECONDS, *more, config=SMALL)
        assert one.wait() == 0, one.log()[-3000:]
        training = Training(untrained, run)
        node = cluster.jobs_of("train_model")[-1]["node"]
        disk = tmp_path / node if more else cluster.disk(node)
        copies = list(disk.glob("trainyard-packs-0/*/*all.safetensors"))
        assert [copy.read_bytes() for copy in copies] == [(far_packs / "all.safetensors").read_bytes()]
        assert f"from sshfs (elsewhere) to {disk}/" in training.newest_log()
        assert training.result() == Training(undisturbed, run).result()


def test_what_a_job_leaves_behind_ends_with_the_cluster(cluster):
    """Not of the workflow: of the test cluster, whose jobs are processes of this machine."""
    ask("sbatch", "--output=/dev/null", "--wrap", "setsid sleep 1234 & sleep 1234")
    sleeping = lambda: [pid for pid in cluster.processes() if status(pid).get("Name") == "sleep"]  # noqa: E731
    assert wait_for(lambda: len(sleeping()) == 2, PATIENCE)
    pids = sleeping()
    cluster.recover()
    assert not cluster.processes() and not any(status(pid).get("State", "X")[0] not in "ZX" for pid in pids)
