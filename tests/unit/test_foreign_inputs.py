"""Commands of the training part on files and settings that are not theirs: one line that names what is wrong, and nothing written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
TASK = {"suite": "s", "run": "r", "model": "m", "architecture": "i3d"}
CALLS = {
    "decide_promotion": ["--predictions", "foreign", "foreign", "--train-json", "empty.json", "empty.json", "--output", "out/p.json"],
    "build_ensemble": ["--predictions", "foreign", "--train-json", "empty.json", "--baselines", "foreign", "--output", "out"],
    "evaluate_model": ["--predictions", "foreign", "--output", "out/m.json"],
    "fit_baselines": ["--train", "foreign", "--validation", "foreign", "--test", "foreign", "--output", "out/b.parquet"],
    "map_attention": ["--model", "foreign", "--train", "foreign", "--test", "foreign", "--output", "out/a"],
    "compare_models": ["--suite", "s", "--output", "out/c.csv", "--json", "out/c.json"],
}
CHANCE = {"suite": "s", "keep": 1, "from_epochs": 1, "to_epochs": 2}
MAPPED = {"architecture": "i3d", "format": "video", "fold": 0, "model": "m", "options": {}, "run": "r"}


def call(folder: Path, script: str, *words: str) -> str:
    """The line that a command says, which refuses what it was given."""
    (folder / "empty.json").write_text("{}")
    (folder / "half.json").write_text('{"half":')
    (folder / "foreign").write_text("abc")
    command = [sys.executable, SCRIPTS / f"{script}.py", *CALLS.get(script, ()), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert not (folder / "out").exists()
    return done.stderr


@pytest.mark.parametrize(
    ("script", "settings", "words"),
    [
        ("decide_promotion", {}, "--settings: from_epochs, keep, suite, to_epochs are missing"),
        ("decide_promotion", CHANCE, "empty.json: is no train.json of a training"),
        ("build_ensemble", {}, "--settings: architecture, model, run, suite are missing"),
        ("build_ensemble", TASK, "empty.json: is no train.json of a training"),
        ("evaluate_model", {}, "--settings: model, run, suite are missing"),
        ("evaluate_model", TASK, "foreign: cannot be read as predictions"),
        ("fit_baselines", {"format": "audio", "fold": 0}, "--settings: architecture, options are missing"),
        ("fit_baselines", {**MAPPED, "format": "ngram"}, "format 'ngram' and architecture 'i3d' do not go together"),
        ("fit_baselines", {**MAPPED, "architecture": "i4d"}, "architecture 'i4d' do not go together"),
        ("map_attention", MAPPED, "architecture: 'i3d' has no attention maps; transformer, magvit have"),
        ("map_attention", {**MAPPED, "architecture": "magvit"}, "foreign: not a whole safetensors file"),
    ],
)
def test_settings_and_files_of_something_else(tmp_path, script, settings, words):
    assert words in call(tmp_path, script, "--settings", json.dumps(settings))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metrics", "half.json"], "error: half.json: not JSON: Expecting"),
        (["--metrics", "empty.json"], "error: empty.json: not a metrics.json"),
        (["--expected", "runs"], "error: --expected: not JSON: Expecting"),
    ],
)
def test_comparisons_of_something_else(tmp_path, words, said):
    assert call(tmp_path, "compare_models", *words).startswith(said)


@pytest.mark.parametrize("content", ["{}", "[]", '{"slots": []}', '{"slots": {"promoted-1": {}}}'])
def test_a_decision_that_is_none(tmp_path, content):
    (tmp_path / "promotion.json").write_text(content)
    packs = [word for split in ("train", "validation", "test") for word in (f"--{split}", "foreign")]
    given = ["--promotion", "promotion.json", "--slot", "promoted-1", *packs, "--checkpoints", "out/c", "--output", "out/o"]
    assert "promotion.json: is no decision of a promotion" in call(tmp_path, "train_model", *given)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"extra_args": "--alpha 3"}, "extra_args: expected a list, found '--alpha 3'"),
        ({"minutes": 0}, "minutes: expected a number above 0, found 0"),
        ({"minutes": None}, "minutes: expected a number above 0, found None"),
    ],
)
def test_a_found_script_is_not_run_with_settings_that_make_no_sense(tmp_path, settings, words):
    """A text in place of the list was passed on letter by letter."""
    (tmp_path / "train_x.py").write_text("raise SystemExit('was run')")
    given = ["--script", "train_x.py", "--settings", json.dumps({"suite": "s", "run": "r", **settings}), "--output", "out", "--log", "log"]
    done = subprocess.run([sys.executable, SCRIPTS / "run_script.py", *given], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 1 and (tmp_path / "log").read_text() == f"error: --settings: {words}\n" and not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [0, 2, -1, "1"])
def test_a_promotion_of_none_or_all_decides_nothing(tmp_path, keep):
    train = {"train_info": {}, "meta_info": {"settings": {"run": "r", "architecture": "i3d", "epochs": 1}}}
    (tmp_path / "train.json").write_text(json.dumps(train))
    said = call(
        tmp_path, "decide_promotion", "--settings", json.dumps({**CHANCE, "keep": keep}), "--train-json", "train.json", "train.json"
    )
    assert f"keep: of 2 candidates 1 or more go on, and not all, not {keep!r}" in said


def test_figures_of_an_earlier_attempt_do_not_stand_for_one_that_failed(tmp_path):
    (tmp_path / "train_x.py").write_text("import os; raise SystemExit(int(os.environ['CODE']))")
    given = ["--script", "train_x.py", "--settings", '{"suite": "s", "run": "r"}', "--output", "out", "--log", "log"]
    for code, files in (("0", ["metrics.json", "output", "train.json", "work"]), ("3", ["output", "work"])):
        more = {"capture_output": True, "cwd": tmp_path, "timeout": 120, "env": {**os.environ, "CODE": code}}
        done = subprocess.run([sys.executable, SCRIPTS / "run_script.py", *given], **more)
        assert done.returncode == (code != "0") and sorted(p.name for p in (tmp_path / "out").iterdir()) == files


def test_the_headline_of_a_found_script_is_of_its_test_samples(tmp_path):
    told = [{"metric": "accuracy", "split": split, "value": value} for split, value in (("train", 1.0), ("test", 0.6))]
    (tmp_path / "train_x.py").write_text(f"import json; json.dump({{'metrics': {told}}}, open('metrics.json', 'w'))")
    given = ["--script", "train_x.py", "--settings", '{"suite": "s", "run": "r"}', "--output", "out", "--log", "log"]
    subprocess.run([sys.executable, SCRIPTS / "run_script.py", *given], cwd=tmp_path, timeout=120, check=True)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["headline"]["split"] == "test"
