"""Found scripts: their flags, their process group, their log, what they may report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trainyard.report.script_metrics import read_script_metrics
from trainyard.train.found_script import ScriptError, check_outcome, last_telling_line, run_script, script_arguments

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "workflow" / "scripts" / "run_script.py"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def launch(script: Path, folder: Path, **settings):
    settings = {"suite": "aimedres", "run": script.stem, "minutes": 1, **settings}
    return subprocess.Popen(
        [sys.executable, COMMAND, "--script", script, "--settings", json.dumps(settings), "--output", folder / "run",
         "--log", folder / "logs" / "x.log"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


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


@pytest.mark.parametrize(
    ("text", "taken", "note"),
    [
        ('{"accuracy": 0.9, "seconds_per_epoch": 3, "name": "x"}', [("accuracy", 0.9, "max")], "direction"),
        ('{"metrics": {"rmse": 2}}', [("rmse", 2.0, "min")], ""),
        (
            '{"metrics": [{"metric": "zest", "value": 1, "direction": "min"}, {"metric": "auc", "value": NaN}]}',
            [("zest", 1.0, "min")],
            "finite",
        ),
        ('{"metrics": [{"metric": "auc", "value": true}, 3]}', [], "no metric's name"),
        ("[1, 2]", [], "no list of metrics"),
        ("{", [], "not JSON"),
        ('{"metrics": [' + ",".join(['{"metric": "auc", "value": 1}'] * 300) + "]}", [("auc", 1.0, "max")] * 200, "first 200 of 300"),
        ('{"metrics": []}' + " " * (1 << 20), [], "more than"),
    ],
)
def test_reported_metrics_are_checked(tmp_path, text, taken, note):
    write(tmp_path / "results.json", text)
    metrics, notes = read_script_metrics([tmp_path])
    assert [(m["metric"], m["value"], m["direction"]) for m in metrics] == taken
    assert note in " ".join(notes) and bool(note) == bool(notes)
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("name", ["train_baseline_models", "train_model"])
def test_the_shipped_examples_learn(tmp_path, name):
    script = ROOT / "examples" / "aimedres" / f"{name}.py"
    assert launch(script, tmp_path, epochs=4, folds=2, batch_size=64, extra_args=["--verbose", "--early-stopping"]).wait() == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    best = max(m["value"] for m in metrics if m["metric"] == "auc")
    assert best > 0.55 and all(m["trivial"]["value"] < 0.65 for m in metrics)
