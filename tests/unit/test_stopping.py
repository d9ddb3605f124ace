"""Being asked to stop, with real processes: signals, a deadline, a parent that is gone; and what it costs, which is nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest
from processes import gone
from small_run import SmallRun, killed_training
from trainyard.train.stopping import RESUME_ME, StopFlag, batch_deadline

LONG = 3000  # epochs: more than is ever waited for


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> dict[str, str]:
    return killed_training.make_packs(tmp_path_factory.mktemp("packs"))


@pytest.fixture
def started():
    found: list[subprocess.Popen] = []
    yield found
    for process in found:
        process.kill()
        process.wait()


def test_every_signal_saves_and_leaves_with_resume_me_and_the_end_is_the_same(packs, tmp_path, started):
    whole = SmallRun(packs, tmp_path / "whole", epochs=150)
    assert whole.call().returncode == 0
    run, step = SmallRun(packs, tmp_path / "stopped", epochs=150), -1
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
        started.append(run.start())
        run.wait_past(max(step, 0))
        started[-1].send_signal(number)
        said, _ = started[-1].communicate(timeout=120)
        assert started[-1].returncode == RESUME_ME == 75, said
        assert f"stopped: received {number.name}; saved at step " in said and "run again to go on" in said and "Traceback" not in said
        before, step = step, int(said.rsplit("saved at step ", 1)[1].split()[0])
        assert step > before and (step == 0 or f"resuming at step {before}" in said or before < 1)
    assert run.call().returncode == 0
    assert run.results() == whole.results()


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    code = "import sys, time\nfrom trainyard.train.stopping import StopFlag\nflag = StopFlag().listen()\nprint('on', flush=True)\n"
    code += "while not flag.requested(): time.sleep(0.01)\nprint(flag.reason, flush=True)\ntime.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "received SIGINT\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130 and process.stderr.read() == ""
    finally:
        process.kill()


def test_under_nohup_a_hangup_stays_ignored():
    code = "import os, signal\nfrom trainyard.train.stopping import StopFlag\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    code += "flag = StopFlag().listen()\nos.kill(os.getpid(), signal.SIGHUP)\nprint(flag.requested())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "False\n"


PARENT = "import subprocess, sys, time\np = subprocess.Popen(sys.argv[1:])\nprint(p.pid, flush=True)\ntime.sleep(600)\n"


def test_no_trainer_outlives_the_process_that_started_it(packs, tmp_path, started):
    run, log = SmallRun(packs, tmp_path / "run", epochs=LONG), tmp_path / "log"
    started.append(
        subprocess.Popen(
            [sys.executable, "-c", PARENT, *run.command("--watch-parent", "--log", str(log))], stdout=subprocess.PIPE, text=True
        )
    )
    trainer = int(started[-1].stdout.readline())
    try:
        run.wait_past(3)
        started[-1].kill()
        for _ in range(600):
            if log.exists() and "the workflow that started this run is gone; saved at step" in log.read_text():
                break
            time.sleep(0.05)
        else:
            raise AssertionError(log.read_text())
    finally:
        if not (left := gone(trainer)):
            os.kill(trainer, signal.SIGKILL)
        assert left


def test_a_parent_that_was_gone_before_the_trainer_looked_is_missed_too(packs, tmp_path):
    parent = subprocess.Popen(["true"])
    parent.wait()
    done = SmallRun(packs, tmp_path / "run", epochs=LONG).call("--watch-parent", str(parent.pid))
    assert done.returncode == RESUME_ME and "the workflow that started this run is gone" in done.stderr


def test_a_deadline_saves_and_leaves(packs, tmp_path):
    run = SmallRun(packs, tmp_path / "run", epochs=LONG)
    done = run.call("--deadline", "0.1m")
    assert done.returncode == RESUME_ME and "the deadline of " in done.stderr and "saved at step" in done.stderr
    wrong = run.call("--deadline", "tomorrow")
    assert (
        wrong.returncode == 1 and wrong.stderr.startswith("error: deadline: 'tomorrow' is neither a time") and wrong.stderr.count("\n") == 1
    )


def test_a_batch_systems_own_limit_is_a_deadline_a_minute_early(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1795600000")
    assert batch_deadline() == 1795600000 - 60
    monkeypatch.setenv("SLURM_JOB_END_TIME", "never")
    assert batch_deadline() is None


def test_a_clock_that_jumps_stops_at_a_deadline_at_worst(monkeypatch):
    flag, late = StopFlag(), StopFlag(deadline=2e9)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert not flag.requested() and not late.requested()
    monkeypatch.setattr(time, "time", lambda: 3e9)
    assert not flag.requested() and late.requested()


def test_retries_go_on_while_there_is_progress_and_give_up_when_there_is_none(packs, tmp_path):
    run = SmallRun(packs, tmp_path / "run", epochs=LONG)
    for number, minutes in enumerate(("0.1m", "0.3m", "1m")):  # on a busy machine the first may be over before the first step
        first = run.call("--deadline", minutes, TRAINYARD_CALL=f"one{number}")
        assert first.returncode == RESUME_ME
        if "saved at step 0 " not in first.stderr:
            break
    past = "2020-01-01T00:00"
    second = run.call("--deadline", past, TRAINYARD_CALL=f"one{number}")
    assert second.returncode == RESUME_ME and "resuming at step" in second.stdout, "the one before made progress, so this one began"
    third = run.call("--deadline", past, TRAINYARD_CALL=f"one{number}")
    assert third.returncode == 1 and third.stderr.startswith("error: gave up: the attempt before made no progress (the deadline")
    other = run.call("--deadline", past, TRAINYARD_CALL="two")
    assert other.returncode == RESUME_ME, "another call of snakemake tries again"
