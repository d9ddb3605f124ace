"""A job on another machine knows what the first call found: the worker's runs, the found scripts; and how far it is is seen from here."""

import json
import logging
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from served import needs_rclone, serve
from snakemake_logger_plugin_trainyard.events import Tracker
from snakemake_logger_plugin_trainyard.heartbeat import all_heartbeats, read_heartbeat
from trainyard.cli import main
from trainyard.cli.elsewhere import stored_heartbeats
from trainyard.config.base import ConfigError
from trainyard.config.command_line import read_config
from trainyard.config.elsewhere import LONGEST, decode, encode
from trainyard.config.worker import Slice
from trainyard.dag.jobs import Jobs
from trainyard.machines.checkpoints import Mirrored
from trainyard.machines.object_store import BUCKET
from trainyard.machines.s3 import client, listing
from trainyard.machines.sent import sent_scripts

needs_rclone()
HOME = Path(__file__).parents[2]


def jobs_of(told=None, *words: str) -> Jobs:
    return Jobs(read_config(HOME, [], ["suites=aimedres", *words]), HOME, told)


def names(jobs: Jobs) -> list[str]:
    return [r.name for r in jobs.runs] + jobs.script_names


@pytest.fixture
def controller(tmp_path, monkeypatch) -> Path:
    """A folder with a plan that gives A two folds, and a found script."""
    folder = tmp_path / "controller"
    (folder / "results").mkdir(parents=True)
    runs = [{"suite": "aimedres", "run": run, "machine": "A", "start": 0, "hours": 1} for run in ("als-fold1", "als-fold2")]
    (folder / "results/plan.json").write_text(json.dumps({"runs": runs, "machines": [{"name": "A"}, {"name": "B"}]}))
    (folder / "found").mkdir()
    (folder / "found/train_mine.py").write_text("print(1)\n")
    (folder / "data").mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def host(tmp_path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    return folder


def test_a_workers_runs_by_a_plan_that_is_not_there(controller, host, monkeypatch):
    here = jobs_of(None, "worker=A")
    assert names(here) == ["als-fold1", "als-fold2"]
    told = decode(encode(here.config, frozenset()))
    monkeypatch.chdir(host)
    with pytest.raises(ConfigError, match="no machine is called 'A'"):
        jobs_of(None, "worker=A")
    there = jobs_of(told, "worker=A")
    assert names(there) == names(here) and there.config.mine == here.config.mine


def test_data_and_scripts_that_are_not_there(controller, host, monkeypatch):
    mine = "aimedres={discover: {root: found}, datasets: {als: {root: %s, glob: '*.csv'}}}" % (controller / "data")
    words = (mine, "only=als,train_mine")
    try:
        here = jobs_of(None, *words)
    except ConfigError as error:  # what the overlay lacks is not what this test is about
        pytest.fail(str(error))
    told = decode(encode(here.config, sent_scripts(here.config, controller)))
    monkeypatch.chdir(host)
    (controller / "data").rmdir()
    with pytest.raises(ConfigError, match="no such"):
        jobs_of(None, *words)
    there = jobs_of(told, *words)
    assert names(there) == names(here) and "train_mine" in names(there)
    assert [s.path for s in there.scripts] == ["found/train_mine.py"] and told.sent == {"found/train_mine.py"}


def test_too_much_for_a_variable_is_said(controller):
    config = jobs_of(None, "worker=A").config
    paths = frozenset(os.urandom(40).hex() for _ in range(LONGEST // 40))
    with pytest.raises(ConfigError, match="choose fewer at a time"):
        encode(config.model_copy(update={"mine": Slice("A", "a plan", paths)}), frozenset())
    with pytest.raises(ConfigError, match="cannot be read"):
        decode("not what it was")


def test_which_scripts_travel(controller):
    def sent(root: str | Path, more: str = "") -> list[str]:
        config = jobs_of(None, f"aimedres={{discover: {{root: {root}{more}}}}}", "only=train_mine").config
        return sorted(sent_scripts(config, controller))

    assert sent("found") == ["found/train_mine.py"], "without git all files are sent"
    subprocess.run(["git", "init", "-q", str(controller)], check=True, timeout=30)
    assert sent(controller / "found") == [str(controller / "found/train_mine.py")], "untracked files are sent too"
    assert sent("found", ", stay: true") == []
    outside = controller.parent / "outside"
    outside.mkdir()
    (outside / "train_mine.py").write_text("print(2)\n")
    assert sent(outside) == []
    (controller / "linked").symlink_to(outside)
    assert sent("linked") == []
    (controller / ".gitignore").write_text("/found/\n")
    assert sent("found") == []


def test_progress_on_another_machine_is_seen(controller, tmp_path, monkeypatch, capsys):
    """From the store on this machine, by this machine's clock; from a bucket by asking it; and it is not taken for a fingerprint."""
    store = serve(controller / ".trainyard", monkeypatch)
    try:
        s3 = client(retries=8)
        url = f"s3://{BUCKET}/yard/checkpoints"
        there = tmp_path / "host/checkpoints/aimedres/als-fold1"
        (there / "abcdef").mkdir(parents=True)
        an_hour_ahead = {"suite": "aimedres", "run": "als-fold1", "epoch": 3, "epochs": 9, "loss": 0.5, "host": "box", "pid": 7}
        (there / "progress.json").write_text(json.dumps({**an_hour_ahead, "updated": time.time() + 3600}))
        mirrored = Mirrored(s3, url, there / "abcdef")
        mirrored.put_progress()
        mirrored.put_progress()
        mirrored.forget_others()
        assert [o["Key"] for o in listing(s3, BUCKET, "yard/")] == ["yard/checkpoints/aimedres/als-fold1/progress.json"]

        jobs = [
            {"rule": "train_model", "suite": "aimedres", "run": "als-fold1", "state": "running", "machine": "big-box"},
            {"rule": "fit_baselines", "suite": "aimedres", "run": "als-fold2", "state": "running", "machine": "small-box"},
        ]
        running = {"state": "running", "host": socket.gethostname(), "pid": os.getpid(), "jobs": jobs, "counts": {}}
        (controller / "results/summary.json").write_text(json.dumps(running))
        folder = controller / ".trainyard/store" / BUCKET / "yard/checkpoints"
        (controller / ".trainyard/storage.json").write_text(json.dumps({"checkpoints": url, "folder": str(folder)}))
        (beat,) = all_heartbeats()
        assert 0 <= beat.age < 60 and beat.words().startswith("epoch 3/9") and read_heartbeat("aimedres", "als-fold1") == beat
        assert main(["status"]) == 0
        said = capsys.readouterr().out
        assert "aimedres/als-fold1  running on big-box" in said and "epoch 3/9" in said
        assert "fit_baselines aimedres/als-fold2  on small-box" in said

        (controller / ".trainyard/storage.json").write_text(json.dumps({"checkpoints": url, "folder": None}))
        assert main(["status"]) == 0
        assert "epoch 3/9" in capsys.readouterr().out
        (beat,) = stored_heartbeats(url, print)
        assert (beat.suite, beat.run) == ("aimedres", "als-fold1") and abs(beat.age) < 60
    finally:
        store.close()
    said = []
    assert stored_heartbeats(url, said.append) == [] and "cannot be asked" in said[0]


def test_the_ssh_executor_says_where_a_job_runs():
    tracker = Tracker()
    tracker._job(7, "train_model").state = "running"
    said = logging.LogRecord("snakemake", logging.INFO, "x.py", 1, "ssh: job 7 (train_model a) runs on host big-box", (), None)
    said.ssh_jobid, said.ssh_host = 7, "big-box"
    tracker.handle(said)
    assert tracker.jobs[7].machine == "big-box"
