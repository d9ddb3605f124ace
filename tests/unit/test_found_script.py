"""Found scripts: their flags, their process group, their log."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from found_scripts import launch, write
from processes import gone
from trainyard.train.found_script import ScriptError, check_outcome, last_telling_line, run_script, script_arguments


def wait_for(path: Path) -> str:
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_only_mentioned_and_given_flags_are_passed():
    settings = {"epochs": 3, "folds": None, "batch_size": 64, "extra_args": ["--verbose", "--early-stopping"]}
    source = 'p.add_argument("--epochs"); p.add_argument("--folds"); p.add_argument("--batch"); p.add_argument("--output-directory")'
    assert script_arguments(source, settings, Path("o")) == ["--epochs", "3", "--batch", "64", "--verbose", "--early-stopping"]
    assert script_arguments("'--epochs-per-stage' '--output_dir'", settings, Path("o")) == [
        "--output_dir",
        "o",
        "--verbose",
        "--early-stopping",
    ]
    assert script_arguments("", {}, Path("o")) == []


def test_a_script_runs_alone_and_its_metrics_are_taken(tmp_path):
    script = write(
        tmp_path / "my scripts" / "train_x.py",
        "import argparse, json, os, helper\n"
        "p = argparse.ArgumentParser(); p.add_argument('--epochs', type=int); p.add_argument('--output-dir'); a = p.parse_args()\n"
        "open('scratch.txt', 'w').write(helper.WORD); print('trained', a.epochs)\n"
        "json.dump({'metrics': [{'metric': 'auc', 'value': 0.8, 'n': 9, 'trivial': {'name': 'constant', 'value': 0.5}}]},"
        " open(os.path.join(a.output_dir, 'metrics.json'), 'w'))\n",
    )
    write(script.parent / "helper.py", "WORD = 'beside'\n")
    assert launch(script, tmp_path, epochs=7).wait() == 0
    run = tmp_path / "run"
    assert (run / "work" / "scratch.txt").read_text() == "beside" and not Path("scratch.txt").exists()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["state"] == "done" and metrics["headline"] == {"part": "result", "split": "test", "metric": "auc"}
    (entry,) = metrics["metrics"]
    assert (entry["value"], entry["direction"], entry["trivial"]) == (0.8, "max", {"name": "constant", "value": 0.5})
    assert "trained 7" in (tmp_path / "logs" / "x.log").read_text()
    script.write_text("print('second')")
    assert launch(script, tmp_path).wait() == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["metrics"] == [] and "reported no metrics" in metrics["notes"][0], "nothing is left of the first attempt"
    attempts = [p.read_text() for p in sorted((tmp_path / "logs").glob("x.*.log"))]
    assert len(attempts) == 2 and sum("trained 7" in a for a in attempts) == 1 and sum("second" in a for a in attempts) == 1


def test_a_failing_script_says_the_line_that_matters(tmp_path):
    script = write(tmp_path / "train_bad.py", "print('epoch 1')\nraise KeyError('no column \"age\"')\n")
    assert launch(script, tmp_path).wait() == 1
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert (tmp_path / "logs" / "x.log").read_text().splitlines()[-1].startswith("error: exit code 1: KeyError: 'no column \"age\"'")


CHILDREN = (
    "import subprocess, sys, time, pathlib\n"
    "code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'\n"
    "child = subprocess.Popen([sys.executable, '-c', code])\n"
    "pathlib.Path('{pids}').write_text(str(child.pid))\n"
)


def test_the_time_limit_ends_the_whole_process_group(tmp_path):
    pids = tmp_path / "pids"
    script = write(tmp_path / "train_slow.py", CHILDREN.format(pids=pids) + "print('still here', flush=True)\ntime.sleep(600)\n")
    outcome = run_script(script, [], tmp_path / "work", tmp_path / "output", minutes=0.05)
    assert outcome.ended == "timeout" and gone(int(pids.read_text()))
    with pytest.raises(ScriptError, match="stopped after 0.05 minutes"):
        check_outcome(outcome, 0.05, None)


def test_children_that_outlive_a_script_are_ended(tmp_path):
    pids = tmp_path / "pids"
    script = write(tmp_path / "train_quick.py", CHILDREN.format(pids=pids))
    outcome = run_script(script, [], tmp_path / "work", tmp_path / "output", minutes=1)
    assert (outcome.code, outcome.ended) == (0, "exit") and gone(int(pids.read_text()))


def test_a_signal_reaches_the_script_and_its_children(tmp_path):
    pids = tmp_path / "pids"
    script = write(tmp_path / "train_long.py", CHILDREN.format(pids=pids) + "time.sleep(600)\n")
    process = launch(script, tmp_path)
    child = int(wait_for(pids))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 1 and gone(child)
    assert "stopped from outside (SIGTERM)" in (tmp_path / "logs" / "x.log").read_text()


def test_the_same_signal_twice_leaves_a_script_its_time_to_save(tmp_path):
    text = "import pathlib, signal, sys, time\n"
    text += "def save(*_):\n    time.sleep(1)\n    pathlib.Path('saved').write_text('x')\n    sys.exit(3)\n"
    text += "signal.signal(signal.SIGTERM, save)\npathlib.Path('ready').write_text('x')\ntime.sleep(600)\n"
    process = launch(write(tmp_path / "train_saves.py", text), tmp_path)
    wait_for(tmp_path / "run" / "work" / "ready")
    process.send_signal(signal.SIGTERM)  # from whoever ends the whole group,
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)  # and from the workflow, which passes it on
    assert process.wait(30) == 1 and (tmp_path / "run" / "work" / "saved").exists()


@pytest.mark.parametrize(("end", "words"), [("time.sleep(600)", "stopped after 0.02 minutes"), ("sys.exit(3)", "exit code 3")])
def test_of_one_that_printed_nothing_our_own_words_are_not_taken_for_its(tmp_path, end, words):
    script = write(tmp_path / "train_silent.py", f"import sys, time\n{end}\n")
    assert launch(script, tmp_path, minutes=0.02).wait(60) == 1
    said = (tmp_path / "logs" / "x.log").read_text().splitlines()
    assert "train_silent.py" in said[0] and said[-1].startswith(f"error: {words}") and said[-1].endswith("it printed nothing")


DAEMON = (
    "import os, pathlib, subprocess, sys, time\n"
    "child = 'import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0);"
    " pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)'\n"
    "subprocess.run([sys.executable, '-c', child, {pids!r}])\n"
    "while not (pathlib.Path({pids!r}).exists() and pathlib.Path({pids!r}).read_text()): time.sleep(0.01)\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="finding processes that left their group needs /proc")
@pytest.mark.parametrize(("ending", "ended"), [("", "exit"), ("time.sleep(600)\n", "timeout")])
def test_a_daemon_that_left_the_process_group_is_ended_too(tmp_path, ending, ended):
    pids = tmp_path / "pids"
    mine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    script = write(tmp_path / "train_daemon.py", DAEMON.format(pids=str(pids)) + ending)
    try:
        outcome = run_script(script, [], tmp_path / "work", tmp_path / "output", minutes=1 if ended == "exit" else 0.02)
        assert outcome.ended == ended and gone(int(pids.read_text()))
        assert mine.poll() is None, "what was there before is none of the script's"
    finally:
        mine.kill()
        mine.wait()


def test_an_empty_end_is_no_result_but_no_failure(tmp_path):
    script = write(
        tmp_path / "train_quiet.py", "import os\nopen(os.environ['TRAINYARD_OUTPUT_DIR'] + '/metrics.json', 'w').write('{junk')\n"
    )
    assert launch(script, tmp_path).wait() == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (found["state"], found["metrics"], found["headline"]) == ("done", [], None) and "not JSON" in found["notes"][0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            'a\nTraceback (most recent call last):\n  File "x", line 3, in f\n    raise X\nmy.mod.DataError: no such column\n',
            "my.mod.DataError: no such column",
        ),
        ("epoch 1\nRuntimeError: CUDA out of memory\ncleaning up\n", "RuntimeError: CUDA out of memory"),
        ("usage: x\nx.py: error: unrecognized arguments: --foo\n", "x.py: error: unrecognized arguments: --foo"),
        ("one\n\x1b[31mtwo\x1b[0m\n 40%|████      | 4/10\n-----\n\n", "two"),
        ("10%\r20%\rdone\n", "done"),
        ("", ""),
    ],
)
def test_the_telling_line(tmp_path, text, line):
    assert last_telling_line(write(tmp_path / "log", text)) == line
