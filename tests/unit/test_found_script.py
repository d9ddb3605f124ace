"""Found scripts: their flags, their process group, their log, what they may report."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
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


FULL = {
    "metric": "log_loss", "value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 90, "groups": 30,
    "trivial": {"name": "frequency", "value": 0.7}, "vs_trivial": {"difference": 0.2, "ci_low": 0.1, "ci_high": 0.3, "p_better": 0.99},
    "simple": {"name": "logistic", "value": 0.45}, "vs_simple": {"difference": -0.05, "ci_low": -0.1, "ci_high": 0.01, "p_better": 0.1},
}  # fmt: skip


def test_intervals_and_paired_differences_are_taken_whole(tmp_path):
    write(tmp_path / "metrics.json", json.dumps({"metrics": [FULL]}))
    (taken,), notes = read_script_metrics([tmp_path])
    assert notes == [] and {key: taken[key] for key in FULL} == FULL and taken["direction"] == "min"


@pytest.mark.parametrize(
    ("change", "lost", "note"),
    [
        ({"ci_low": 0.7}, {"ci_low": None, "ci_high": None}, "ci_low and ci_high are not an interval"),
        ({"ci_high": None}, {"ci_low": None, "ci_high": None}, "not an interval"),
        ({"groups": -1}, {"groups": None}, ""),
        ({"vs_trivial": {"difference": -0.2, "p_better": 0.01}}, {"vs_trivial": None}, "vs_trivial: its difference contradicts the values"),
        ({"vs_simple": {"difference": 0.05}}, {"vs_simple": None}, "contradicts"),
        ({"simple": None}, {"simple": None, "vs_simple": None}, "vs_simple without the value of simple"),
        ({"vs_simple": 3}, {"vs_simple": None}, "vs_simple: needs a finite difference"),
        ({"vs_simple": {"p_better": 0.9}}, {"vs_simple": None}, "needs a finite difference"),
        (
            {"vs_simple": {"difference": -0.05, "ci_low": 1, "ci_high": 0, "p_better": 0.1}},
            {"vs_simple": {"difference": -0.05, "ci_low": None, "ci_high": None, "p_better": 0.1}},
            "vs_simple: ci_low and ci_high",
        ),
        (
            {"vs_simple": {"difference": -0.05, "p_better": 99}},
            {"vs_simple": {"difference": -0.05, "ci_low": None, "ci_high": None, "p_better": None}},
            "p_better is not between 0 and 1",
        ),
    ],
)
def test_what_is_wrong_with_an_interval_costs_only_itself(tmp_path, change, lost, note):
    write(tmp_path / "metrics.json", json.dumps({"metrics": [FULL | change]}))
    (taken,), notes = read_script_metrics([tmp_path])
    assert {key: taken.get(key) for key in FULL} == FULL | lost
    assert note in " ".join(notes) and len(notes) == bool(note)


EXAMPLES = ["train_baseline_models", "train_model"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_shipped_examples_learn_and_show_how_surely(tmp_path, name):
    script = ROOT / "examples" / "aimedres" / f"{name}.py"
    assert launch(script, tmp_path, epochs=8, folds=2, batch_size=32, extra_args=["--verbose", "--early-stopping"]).wait() == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["notes"] == [] and found["headline"]["metric"] == "auc" and {m["metric"] for m in found["metrics"]} == {"auc", "accuracy"}
    for m in found["metrics"]:
        assert m["ci_low"] < m["value"] < m["ci_high"] and m["groups"] == 300 < m["n"]
        assert m["trivial"]["value"] == 0.5 if m["metric"] == "auc" else 0.4 < m["trivial"]["value"] < 0.6
        assert 0.5 < m["simple"]["value"] < 0.7 and m["simple"]["name"] == "logistic regression"
        for level in ("trivial", "simple"):
            gain = m[f"vs_{level}"]
            assert gain["difference"] == pytest.approx(m["value"] - m[level]["value"])
            assert gain["ci_low"] < gain["difference"] < gain["ci_high"]
            assert gain["p_better"] > 0.975 and m["value"] > 0.6, "the table holds what a straight line cannot see"


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request):
    spec = importlib.util.spec_from_file_location(f"example_{request.param}", ROOT / "examples" / "aimedres" / f"{request.param}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_draw_patients_not_visits(example):
    """Every visit written down four times is no more evidence."""
    rng = np.random.default_rng(0)
    patients, y = np.arange(60), rng.integers(0, 2, 60)
    score, simple = np.round(y * 0.3 + rng.random(60) * 0.7, 1), rng.random(60)
    once = example.report("x", y, patients, score, np.zeros(60), simple)
    four = example.report("x", *(np.repeat(a, 4) for a in (y, patients, score, np.zeros(60), simple)))
    assert once[0]["value"] == pytest.approx(roc_auc_score(y, score)) and once[1]["trivial"]["value"] == pytest.approx(1 - y.mean())
    for a, b in zip(once, four):
        assert (a["n"], a["groups"], b["n"], b["groups"]) == (60, 60, 240, 60)
        assert [a["ci_low"], a["ci_high"]] == pytest.approx([b["ci_low"], b["ci_high"]]) and a["ci_low"] < a["value"] < a["ci_high"]
        assert a["vs_simple"] == pytest.approx(b["vs_simple"])


def test_examples_learn_nothing_of_held_out_patients(example, tmp_path, monkeypatch):
    """Each patient's visits look alike and share a label drawn by lot: who tests on a patient seen in training is near 1."""
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(120), 4)
    table = pd.DataFrame(rng.normal(size=(120, 40))[who]).add_prefix("x")
    table["person"] = [f"{w:03d}" for w in who]
    table["word"] = [None if w % 7 == 0 else "xyz"[w % 3] for w in who]
    table["ill"] = np.where(rng.random(120) < 0.5, "yes", "no")[who]
    table.loc[5, "x0"], table.loc[9, "ill"] = None, None
    table.to_csv(tmp_path / "own.csv", index=False, encoding="utf-8-sig")
    arguments = ["x", "--data", tmp_path / "own.csv", "--label", "ill", "--group", "person", "--folds", "3", "--output-dir", tmp_path / "o"]
    monkeypatch.setattr(sys, "argv", [str(a) for a in arguments])
    monkeypatch.setattr(example, "DRAWS", 50)
    example.main()
    metrics, notes = read_script_metrics([tmp_path / "o"])
    assert not notes and {(m["n"], m["groups"]) for m in metrics} == {(479, 120)}
    assert all(0.3 < m["value"] < 0.58 for m in metrics)


def test_examples_say_what_is_wrong_with_a_table(example, tmp_path):
    path = write(tmp_path / "t.csv", "patient_id,age,diagnosis\n001,50,0\n002,60,1\n,70,1\n003,,\n")
    x, y, patients = example.read_table(path, "diagnosis", "patient_id")
    assert list(x.columns) == ["age"] and y.tolist() == [0, 1] and patients.tolist() == [0, 1]
    for label, group, said in (
        ("stage", "patient_id", "'stage'.*--label"),
        ("diagnosis", "who", "'who'.*--group"),
        ("age", "diagnosis", "3 val"),
    ):
        with pytest.raises(SystemExit, match=said):
            example.read_table(path, label, group)
