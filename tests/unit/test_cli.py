"""`trainyard status | logs | doctor`: what they say, their exit codes, and that they import no torch."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from snakemake_logger_plugin_trainyard.events import Tracker
from snakemake_logger_plugin_trainyard.summary import Summary
from snakemake_logger_plugin_trainyard.symptoms import advise, book, look_up
from trainyard.cli import main
from trainyard.cli.logs import find_logs, follow_logs
from trainyard.cli.looks import find_lock, read_lock
from trainyard.cli.processes import life_of
from trainyard.train.progress import Heartbeat, process_started


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def summary(home, *jobs, state="failed", **more):
    content = {"started": "2026-01-01T00:00:00+00:00", "finished": None, "state": state, "command": "snakemake", "jobs": list(jobs)}
    content["counts"] = {"total": 4, "done": 2, "failed": 1, "skipped": 1}
    (home / "results").mkdir(exist_ok=True)
    (home / "results" / "summary.json").write_text(json.dumps({**content, **more}))


def job(run, state, rule="train_model", **more):
    return {"rule": rule, "suite": "kmidi", "run": run, "state": state, "attempts": 1, "reason": None, "log": None, **more}


def heartbeat(home, run, **fixed):
    beat = Heartbeat(home / "checkpoints" / "kmidi" / run / "progress.json", suite="kmidi", run=run)
    beat.fixed.update(fixed)
    beat.beat(3, 10, 16, force=True, epoch=1, epochs=5, loss=0.5, validation_loss=0.25)


@pytest.fixture(scope="module")
def gone():
    """The pid and start of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    started = process_started(process.pid)
    process.kill()
    process.wait()
    return process.pid, started


def test_nothing_here_yet(home, capsys):
    assert main(["status"]) == 2
    assert "snakemake -n" in capsys.readouterr().out


def test_failed_ones_are_told_with_reason_attempt_and_log(home, capsys):
    summary(home, job("a", "failed", reason="error: no sad samples", attempts=3, log="logs/train_model/kmidi/a.log"), job("b", "done"))
    assert main(["status"]) == 1
    out = capsys.readouterr().out
    assert "train_model kmidi/a  attempt 3" in out
    assert "error: no sad samples" in out
    assert "logs/train_model/kmidi/a.log" in out
    assert "2 of 4 jobs done" in out


def test_alive_dead_and_unknown_are_three_things(home, capsys, gone):
    pid, started = gone
    heartbeat(home, "here")
    heartbeat(home, "ended", pid=pid, pid_started=started)
    heartbeat(home, "reused", pid=os.getpid(), pid_started=1.0)  # another process has the number now
    heartbeat(home, "elsewhere", host="lab-7")
    assert main(["status", "--json"]) == 1
    states = {t["run"]: t["state"] for t in json.loads(capsys.readouterr().out)["trainings"]}
    assert states == {"here": "running", "ended": "dead", "reused": "dead", "elsewhere": "unknown"}
    main(["status"])
    out = capsys.readouterr().out
    assert "epoch 1/5  loss 0.25" in out
    assert "lab-7" in out


def test_a_training_that_ended_well_is_not_dead(home, capsys, gone):
    heartbeat(home, "a", pid=gone[0], pid_started=gone[1])
    done = home / "results" / "kmidi" / "runs" / "a"
    done.mkdir(parents=True)
    (done / "train.json").write_text("{}")
    summary(home, job("a", "done"), state="done")
    assert main(["status"]) == 0
    assert "dead" not in capsys.readouterr().out


def test_a_summary_whose_snakemake_is_gone(home, capsys, gone):
    summary(home, job("a", "running"), state="running", host=socket.gethostname(), pid=gone[0], pid_started=gone[1])
    assert main(["status"]) == 1
    assert "Last call of snakemake: dead" in capsys.readouterr().out
    summary(
        home, job("a", "running"), state="running", host=socket.gethostname(), pid=os.getpid(), pid_started=process_started(os.getpid())
    )
    assert main(["status"]) == 0


def test_life_by_epoch_start_too():
    import psutil

    host = socket.gethostname()
    assert life_of(host, os.getpid(), psutil.Process().create_time()) == "alive"
    assert life_of(host, os.getpid(), time.time() - 1e6) == "dead"
    assert life_of("elsewhere", os.getpid()) == "unknown"
    assert life_of(host, None) == "unknown"


def test_a_broken_summary_is_said_not_traced(home, capsys):
    (home / "results").mkdir()
    (home / "results" / "summary.json").write_text("{")
    assert main(["status"]) == 2
    assert "error: results/summary.json: not JSON" in capsys.readouterr().err


def test_a_damaged_summary_is_written_anew(home):
    good, path = job("a", "done", seconds=3.0), home / "results" / "summary.json"
    summary(home, good, {"rule": "x", "state": "done"}, {**good, "run": "b", "suite": 7}, state="done")
    kept = Summary(path)
    assert list(kept.earlier) == [("train_model", "kmidi", "a")]
    tracker = Tracker()
    tracker.whole = False
    kept.changed(tracker, now=True)
    assert [j["run"] for j in json.loads(path.read_text())["jobs"]] == ["a"]


@pytest.mark.parametrize("more", [{"jobs": ["x"]}, {"jobs": [{"state": "failed", "reason": 3}]}, {"counts": []}, {"jobs": {}}])
@pytest.mark.parametrize("words", [["status"], ["logs", "--errors"]])
def test_a_summary_of_another_form_is_said_not_traced(home, capsys, more, words):
    summary(home, **{"state": "done", **{k: v for k, v in more.items() if k != "jobs"}})
    path = home / "results" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    assert main(words) == 2
    assert capsys.readouterr().err == "error: results/summary.json: not a summary; the next `snakemake` writes it anew\n"


def test_a_negative_number_of_lines_is_refused(home, capsys):
    with pytest.raises(SystemExit):
        main(["logs", "--lines", "-5", "a"])
    assert "-5 is less than 0" in capsys.readouterr().err


def logs(home):
    folder = home / "logs" / "train_model" / "kmidi"
    folder.mkdir(parents=True)
    (folder / "a.log").write_text("second attempt\n")
    (folder / "a.20260101T000000-7.log").write_text("first attempt\nerror: first\n")
    (folder / "a.20260102T000000-9.log").write_text("second attempt\n")
    (folder / "b-2.log").write_text("x\nerror: of b\n")
    return folder


def test_logs_are_of_the_newest_attempt(home, capsys):
    folder = logs(home)
    found = find_logs(home / "logs")
    assert [log.name for log in found] == ["train_model/kmidi/a", "train_model/kmidi/b-2"]
    assert found[0].path == folder / "a.20260102T000000-9.log"
    assert main(["logs", "kmidi/a"]) == 0
    assert capsys.readouterr().out == "second attempt\n"
    assert main(["logs", "*/b-?", "-n", "1"]) == 0
    assert capsys.readouterr().out == "error: of b\n"
    assert main(["logs", "nosuch"]) == 1


def test_errors_come_from_the_summary_else_from_the_logs(home, capsys):
    logs(home)
    assert main(["logs", "--errors"]) == 0
    out = capsys.readouterr().out
    assert "error: of b" in out
    assert "error: first" not in out  # that attempt is not the newest
    summary(home, job("c", "failed", reason="Killed", log="logs/c.log"), job("d", "done"))
    assert main(["logs", "--errors"]) == 0
    out = capsys.readouterr().out
    assert "train_model/kmidi/c" in out
    assert "fewer jobs at once" in out
    assert "logs/c.log" in out


def test_following_goes_on_in_the_next_attempt(home, capsys):
    folder = logs(home)
    found = find_logs(home / "logs", "kmidi/a")
    import threading

    def write():
        time.sleep(0.5)  # following has begun
        with open(folder / "a.20260102T000000-9.log", "a") as file:
            file.write("more\n")
        time.sleep(0.8)
        (folder / "a.20260103T000000-1.log").write_text("third attempt\n")

    writer = threading.Thread(target=write)
    writer.start()
    follow_logs(found, stop=3.0)
    writer.join()
    assert capsys.readouterr().out == "more\nthird attempt\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Dataset not found", "data set not found"),
        ("config: kmidi.datasets.m4singer.root: no such file or folder: /data/x; mount it", "data set not found"),
        ("SSH connection refused", "SSH connection refused"),
        ("ssh: connect to host a port 22: Connection timed out", "SSH connection refused"),
        ("CUDA out of memory on a CPU machine", "CUDA out of memory on a machine without CUDA"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB", "GPU memory ran out"),
        ("killed from outside (SIGKILL): usually the machine ran out of memory", "memory ran out"),
        ("UserWarning: PySoundFile failed. Trying audioread instead.", "sound files cannot be decoded"),
        ("Data still on Google Drive", "data still on Google Drive or another slow mount"),
        ("Could not load this library: /x/torch/lib/libtorchcodec.so", "torchaudio or torchcodec does not import"),
        ("Runtime disconnected", "the session ended (Colab, Kaggle, Codespace, Slurm limit)"),
        ("slurmstepd: error: CANCELLED DUE TO TIME LIMIT", "the session ended (Colab, Kaggle, Codespace, Slurm limit)"),
        ("SafetensorError: Error while deserializing header: HeaderTooLarge", "a broken or half-written checkpoint or model"),
        ("cannot merge: the adapters differ in rank_pattern", "adapters do not merge, or the merge was not accepted"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("LockException: Directory cannot be locked.", "the folder is locked"),
        ("the models are not completing", "it is slow"),
    ],
)
def test_the_doctor_knows_what_users_ran_into(text, name):
    assert look_up(text)[0].name == name


def test_the_book_is_whole_and_quiet_about_the_unknown(capsys):
    assert len({s.name for s in book()}) == len(book())
    assert all(s.steps and s.meaning and len(s.first) <= 110 for s in book())
    assert advise("error: no sample of class 'sad'") is None
    assert main(["doctor", "xyzzy"]) == 1
    assert main(["doctor", "PySoundFile", "failed"]) == 0
    assert "quarantine.csv" in capsys.readouterr().out


def test_the_doctor_looks_without_harm(home, capsys):
    before = sorted(home.rglob("*"))
    assert main(["doctor"]) in (0, 1)
    out = capsys.readouterr().out
    for word in ("python", "packages", "audio", "cores", "memory", "gpu", "results", "data", "logger"):
        assert f"  {word} " in out
    assert "soundfile" in out
    assert "could not be looked at" not in out
    assert sorted(home.rglob("*")) == before


def test_the_lock_is_read_for_this_machine(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "# comment\nTypes_PyYAML==6.0\nnumpy==2.4.6 ; python_version >= '3.11'\nwinonly==1.0 ; sys_platform == 'win32'\ntorch==2.13.0\n"
    )
    assert find_lock(tmp_path) == lock
    assert read_lock(lock) == {"types-pyyaml": "6.0", "numpy": "2.4.6", "torch": "2.13.0"}


def test_no_torch_for_a_look(tmp_path):
    code = "import sys; from trainyard.cli import main; main(['status']); main(['doctor']); assert 'torch' not in sys.modules, 'torch'"
    env = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "results").exists() is False
