"""Found scripts through the DAG: odd names, retries with a log an attempt, a time limit, what only / exclude and flags do."""

import json
from pathlib import Path

import pytest
from workflow_runs import jobs_of, snakemake

ODD = "train_it's \u00e9t\u00e9 $(touch bad)"
REPORT = """
import json, os, sys
where = os.environ["TRAINYARD_OUTPUT_DIR"]
json.dump({"auc": 0.75}, open(os.path.join(where, "metrics.json"), "w"))
print("--epochs", "--folds", "--batch-size", sys.argv[1:])
"""
FLAKY = (
    """
import os, pathlib
seen = pathlib.Path(os.environ["TRAINYARD_OUTPUT_DIR"], "seen")
if not seen.exists():
    seen.touch()
    raise RuntimeError("the first attempt fails")
"""
    + REPORT
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scripts \u00fc")
    hangs = "import time\nprint('at it', flush=True)\ntime.sleep(600)"
    scripts = {ODD: REPORT, "train_flaky": FLAKY, "train_silent": "print('nothing')", "train_hangs": hangs, "train_left_out": "1 / 0"}
    for name, text in scripts.items():
        path = folder / "my scripts" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    discover = {"root": str(folder / "my scripts"), "exclude": ["*left_out*"], "minutes": 0.05}
    discover |= {"epochs": 3, "folds": 2, "extra_args": ["--own arg"]}
    (folder / "own.yaml").write_text(json.dumps({"aimedres": {"discover": discover}}))
    done = snakemake(
        folder, "--retries", "1", "--configfile", str(folder / "own.yaml"), config=("suites=aimedres", "only=train_*", "batch_size=7")
    )
    assert done.returncode != 0, "one script hangs"
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    return folder


def test_odd_names_are_only_names_and_flags_arrive(finished):
    assert not list(finished.rglob("bad"))
    metrics = json.loads((finished / "results" / "aimedres" / "runs" / ODD / "metrics.json").read_text())
    assert metrics["metrics"][0]["value"] == 0.75
    arguments = metrics["meta_info"]["arguments"]
    assert arguments == ["--epochs", "3", "--folds", "2", "--batch-size", "7", "--own arg"]


def test_each_attempt_has_its_log_and_a_failed_one_is_tried_again(finished):
    logs = finished / "logs" / "run_script" / "aimedres"
    attempts = sorted(logs.glob("train_flaky.*.log"))
    assert len(attempts) == 2 and "the first attempt fails" in attempts[0].read_text() and "0.75" not in attempts[0].read_text()
    assert (finished / "results" / "aimedres" / "runs" / "train_flaky" / "metrics.json").exists()


def test_one_that_hangs_is_stopped_and_stops_no_other(finished):
    assert jobs_of(finished, "failed") == {("run_script", "train_hangs"): 1}
    said = (finished / "logs" / "run_script" / "aimedres" / "train_hangs.log").read_text()
    assert "stopped after 0.05 minutes with all that it had started; its last line: at it" in said
    assert len(list((finished / "logs" / "run_script" / "aimedres").glob("train_hangs.*.log"))) == 2
    silent = json.loads((finished / "results" / "aimedres" / "runs" / "train_silent" / "metrics.json").read_text())
    assert silent["metrics"] == [] and "reported no metrics" in silent["notes"][0]
    assert "train_left_out" not in (finished / "said.txt").read_text()
