"""What a command says when it fails: one line for a person's mistake, a traceback for a bug of ours."""

import subprocess
import sys
from pathlib import Path

import pytest
import trainyard.command

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"

BELOW = "import sys, numpy as np\nfrom trainyard.command import run_command\ndef main():\n    {body}\nrun_command(main)\n"


def call(body: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", BELOW.format(body=body)], capture_output=True, text=True)


@pytest.mark.parametrize(
    "body, line",
    [
        ("from trainyard.config.validation import read_settings; read_settings('{')", "error: --settings: not JSON"),
        ("from trainyard.data.pack import Pack; Pack('no.safetensors')", "error: no.safetensors: No such file or directory"),
        ("from trainyard.train.device import choose_device; choose_device('cuda')", "error: --device cuda"),
        ("from trainyard.train.device import choose_device; choose_device('tpu')", "error: --device tpu: no such device; it is auto, cpu"),
    ],
)
def test_a_persons_mistake_is_one_line(body, line):
    done = call(body)
    assert done.returncode == 1 and done.stderr.startswith(line) and done.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback_and_ends_in_the_line_that_matters():
    done = call("np.arange(3) + np.arange(4)")
    assert done.returncode == 1 and "Traceback" in done.stderr and "in main" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: operands could not be broadcast")


def test_an_operation_that_fails_on_a_line_of_ours_is_a_bug_too():
    done = call("from trainyard.train.schedule import rate_at; rate_at(np.zeros(2), 5, 1.0, 0.1, 'cosine')")
    assert done.returncode == 1 and "Traceback" in done.stderr and "in rate_at" in done.stderr


def test_exit_codes():
    assert call("return 75").returncode == 75 and call("return None").returncode == 0
    assert trainyard.command.one_line(ValueError("a\n  b")) == "a b"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("copy_to_local.py", ["--source", "x", "--local-root", "y", "--reads", "-1"]),
        ("copy_to_local.py", ["--source", "x", "--local-root", "y", "--subset", "--subset-size", "-1"]),
        ("preflight_check.py", ["--threads", "0"]),
        ("index_dataset.py", ["--settings", "{}", "--output", "x", "--root", ""]),
        ("split_dataset.py", ["--source", "x", "--output", ""]),
        ("train_model.py", ["--threads", "many"]),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_the_name_of_its_argument(script, words):
    done = subprocess.run([sys.executable, SCRIPTS / script, *words], capture_output=True, text=True)
    assert done.returncode == 2 and f"argument {words[-2]}: " in done.stderr and "Traceback" not in done.stderr


PREFLIGHT = ["--train", "x", "--validation", "x", "--test", "x", "--output", "o"]


@pytest.mark.parametrize(
    ("script", "settings", "words", "says"),
    [
        ("preflight_check.py", "{}", PREFLIGHT, "--settings: accumulate, architecture, batch_size"),
        ("train_model.py", '{"suite": "s"}', [*PREFLIGHT, "--checkpoints", "c"], "weight_decay are missing"),
        ("generate_data.py", "{}", ["--output", "o/m.json"], "--settings: generator is missing"),
        ("generate_data.py", '{"generator": "../x"}', ["--output", "o/m.json"], "no generator is called '../x'; known: crescendai, lakh"),
        (
            "generate_data.py",
            '{"generator": "lakh", "generate": {"song": 1}}',
            ["--output", "o/m.json"],
            "known options of lakh: songs, bars",
        ),
        ("generate_data.py", '{"generator": "lakh", "generate": 3}', ["--output", "o/m.json"], "generate: "),
    ],
)
def test_settings_that_lack_something_are_refused_in_one_line(tmp_path, script, settings, words, says):
    command = [sys.executable, SCRIPTS / script, "--settings", settings, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())
