"""A workflow that is killed, interrupted or asked to stop, with the real Snakemake; the next call goes on, to the same bits."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from background_call import LONGEST, Call
from workflow_runs import snakemake, summary

TOY = ("suites=aimedres", "only=als-fold1", "folds=2", "subset_size=200")
OVERLAY = {"aimedres": {"models": {"als": {"epochs": 800, "batch_size": 16, "checkpoint": {"every_epochs": 20}}}}}
RUN = "results/aimedres/runs/als-fold1"
LOG = "logs/train_model/aimedres/als-fold1.log"


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    """A folder with all that comes before training, and the result of one that nobody disturbed."""
    folder = tmp_path_factory.mktemp("ready")
    (folder / "long.json").write_text(json.dumps(OVERLAY))
    done = snakemake(folder, f"{RUN}/train.json", "--configfile", str(folder / "long.json"), config=TOY)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture
def yard(ready):
    """The same folder before its training."""
    before = {p: p.read_bytes() for p in (ready / RUN).glob("*") if p.name in ("model.safetensors", "history.csv", "predictions.parquet")}
    assert len(before) == 3
    for path in (ready / RUN).glob("*"):
        path.unlink()
    for path in (ready / "checkpoints").rglob("*"):
        if path.is_file():
            path.unlink()
    call = Call(ready, "long.json", TOY, f"{RUN}/train.json")
    yield call
    call.clean_up()
    if not (ready / RUN / "train.json").exists():
        assert call.again().returncode == 0
    assert {p: p.read_bytes() for p in before} == before, "the same bytes as if nothing had been"


def test_a_killed_snakemake_leaves_no_trainer_and_no_lock_for_the_next(yard):
    yard.start()
    yard.wait_past(0)
    (pid,) = yard.trainers()
    os.kill(pid, signal.SIGSTOP)  # so that it is still there, however long the second call takes
    second = yard.again()
    assert second.returncode == 1 and "cannot be locked" in second.stdout + second.stderr, "two on one folder: a clear word"
    yard.process.kill()
    yard.process.wait()
    os.kill(pid, signal.SIGCONT)
    yard.nobody_left()
    assert "the workflow that started this run is gone; saved at step" in (yard.folder / LOG).read_text()
    done = yard.again()
    assert done.returncode == 0 and f"(pid {yard.process.pid}) was killed; its lock is taken away" in done.stderr
    assert "resuming at step" in (yard.folder / LOG).read_text()


def test_a_killed_trainer_is_gone_on_with_by_the_same_call(yard):
    yard.start("--retries", "2")
    yard.wait_past(0)
    (pid,) = yard.trainers()
    os.kill(pid, signal.SIGKILL)
    yard.wait_until(lambda: pid not in yard.trainers() and yard.trainers(), "the next attempt")
    yard.wait_past(0)
    (pid,) = yard.trainers()
    os.kill(pid, signal.SIGUSR1)
    assert yard.process.wait(LONGEST) == 0, yard.said()
    attempts = [p.read_text() for p in sorted((yard.folder / LOG).parent.glob("als-fold1.2*.log"))][-3:]
    assert "stopped: received SIGUSR1; saved at step" in attempts[1]
    assert "resuming at step" in attempts[1] and "resuming at step" in attempts[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop_snakemake_alone_lets_its_trainers_save_and_ends(yard, number):
    yard.start("--retries", "2")
    yard.wait_past(0)
    yard.process.send_signal(number)
    assert yard.process.wait(LONGEST) == 1, yard.said()
    assert not yard.trainers()
    assert "stopped: received SIGTERM; saved at step" in (yard.folder / LOG).read_text()
    assert f"received {number.name}: trainings save and leave" in yard.said() and "Traceback" not in yard.said()
    assert [j["state"] for j in summary(yard.folder)["jobs"] if j["rule"] == "train_model"] == ["interrupted"]
    assert yard.again().returncode == 0 and "resuming at step" in (yard.folder / LOG).read_text()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_first_ctrl_c_saves_and_writes_the_summary(yard, terminal):
    yard.start(terminal=terminal)
    yard.wait_past(0)
    yard.press_ctrl_c()
    assert yard.process.wait(LONGEST) == 1
    assert not yard.trainers()
    assert "stopped: received SIGINT; saved at step" in (yard.folder / LOG).read_text()
    assert [j["state"] for j in summary(yard.folder)["jobs"] if j["rule"] == "train_model"] == ["interrupted"]
    assert "Traceback" not in yard.said() and "goes on from its last checkpoint" in yard.said()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_second_ctrl_c_ends_at_once_without_a_traceback(yard, terminal):
    yard.start(terminal=terminal)
    yard.wait_past(0)
    yard.press_ctrl_c()
    time.sleep(0.05)
    yard.press_ctrl_c()
    assert yard.process.wait(LONGEST) == 130
    assert "Traceback" not in yard.said() and yard.said().count("stopped at once") == 1
    yard.nobody_left()
    assert yard.again().returncode == 0, "nothing is locked"


def test_a_deadline_in_the_config_stops_every_attempt_and_without_it_the_next_call_goes_on(yard):
    config = (*TOY, "deadline=0.03m", "tensorboard=true")  # two seconds: gone while torch is imported or soon after
    done = snakemake(yard.folder, *yard.targets, "--retries", "2", "--configfile", yard.overlay, config=config)
    assert done.returncode == 1 and not (yard.folder / RUN / "train.json").exists()
    attempts = [p.read_text() for p in sorted((yard.folder / LOG).parent.glob("als-fold1.2*.log"))]
    # The first attempt may have come some steps far: then the second makes no progress, and it is the third that gives up.
    assert any("stopped: the deadline of " in text and "run again to go on" in text for text in attempts[-3:-1])
    assert "gave up: the attempt before made no progress (the deadline of " in attempts[-1]
    done = snakemake(yard.folder, *yard.targets, "--configfile", yard.overlay, config=(*TOY, "tensorboard=true"))
    assert done.returncode == 0
    events = (yard.folder / "checkpoints/aimedres/als-fold1/tensorboard").glob("events.out.tfevents.*")
    assert any(b"loss/validation" in path.read_bytes() for path in events)
