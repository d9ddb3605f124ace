"""The DAG at toy size: to the end, nothing to do afterwards, and exactly what changed afterwards."""

import os
import re
import shutil
from pathlib import Path

import pytest
from workflow_runs import HOME, jobs_of, snakemake, summary, table

TOY = ("suites=aimedres", "only=als,train_baseline_models", "folds=2", "epochs=2", "subset_size=200")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A copy of the repository, so that its code can be edited."""
    target = tmp_path_factory.mktemp("home")
    for name in ("Snakefile", "rules", "workflow", "config", "profiles", "envs", "examples"):
        source = HOME / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target / name)
    return target


@pytest.fixture(scope="module")
def finished(tmp_path_factory, home) -> Path:
    folder = tmp_path_factory.mktemp("run")
    done = snakemake(folder, home=home, config=TOY)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_every_file_of_the_contract_is_there(finished):
    for name in (
        "results/aimedres/data/als/index.parquet", "results/aimedres/data/als/splits.parquet", "results/aimedres/data/als/splits.json",
        "results/aimedres/packs/als/all.safetensors", "results/aimedres/packs/als/quarantine.csv", "results/aimedres/preflight/als.json",
        "results/aimedres/runs/als-fold1/model.safetensors", "results/aimedres/runs/als-fold1/history.csv",
        "results/aimedres/runs/als-fold1/train.json", "results/aimedres/runs/als-fold1/predictions.parquet",
        "results/aimedres/runs/als-fold2/metrics.json", "results/aimedres/runs/train_baseline_models/metrics.json",
        "results/aimedres/comparison.csv", "results/aimedres/comparison.json", "results/report/index.html", "results/summary.json",
    ):  # fmt: skip
        assert (finished / name).exists(), name
    assert {j["state"] for j in summary(finished)["jobs"]} == {"done"}
    rows = table(finished / "results/aimedres/comparison.csv")
    gathered = [r for r in rows if r["model"] == "als" and r["run"] == "" and r["split"] == "test"]
    assert gathered and all(int(r["runs"]) == 2 for r in gathered)


def test_a_log_for_every_attempt_and_a_benchmark(finished):
    logs = sorted(p.name for p in (finished / "logs/train_model/aimedres").glob("als-fold1*"))
    assert len(logs) == 2 and "als-fold1.log" in logs
    assert (finished / "benchmarks/train_model/aimedres/als-fold1.tsv").exists()


def test_second_call_has_nothing_to_do(finished, home):
    again = snakemake(finished, home=home, config=TOY)
    assert again.returncode == 0 and "nothing to" in (again.stdout + again.stderr).lower()
    assert not jobs_of(finished, "running", "failed")


def planned(finished, home, *args, config=TOY) -> str:
    done = snakemake(finished, "-n", *args, home=home, config=config)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_learning_rate_retrains_that_model_and_a_comment_nothing(finished, home, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("aimedres: {models: {als: {lr: 0.0005}}}\n")
    text = planned(finished, home, "--configfile", str(overlay))
    assert "train_model" in text and "lr: 0.003 → 0.0005" in text, text
    for rule in ("copy_to_local", "run_script", "fit_baselines"):
        assert rule not in text, text
    model = home / "workflow/trainyard/models/tabular_mlp.py"
    source = model.read_text()
    try:
        model.write_text("# a comment\n" + source)
        assert "nothing to" in planned(finished, home).lower()
        model.write_text(source + "\nADDED = 3\n")
        text = planned(finished, home)
        assert "train_model" in text and "code" in text and "copy_to_local" not in text
    finally:
        model.write_text(source)


def test_a_change_of_the_loop_retrains_all_and_the_dry_run_says_the_hours_at_stake(finished, home):
    loop = home / "workflow/trainyard/train/loop.py"
    source = loop.read_text()
    table = finished / "benchmarks/train_model/aimedres/als-fold1.tsv"
    before = table.read_text()
    try:
        loop.write_text(source.replace('"""The training loop', '# A comment.\n\n"""Another docstring. The training loop', 1))
        assert "nothing to" in planned(finished, home).lower(), "comments, docstrings and formatting retrain nothing"
        loop.write_text(source + "\nADDED = 3\n")
        table.write_text("s\th:m:s\n36000\t10:00:00\n")
        text = planned(finished, home)
        assert re.search(r"^\d+ jobs would run; (at least )?8–1[23](\.\d)? h of work at stake", text, re.M), text
        assert re.search(
            r"train_model  2   8–1[23](\.\d)? h\n  follows preflight_check: code changed\n    aimedres: als-fold1, als-fold2", text
        ), text
        assert "run_script" not in text and "copy_to_local" not in text, "what does not use the loop stays"
    finally:
        loop.write_text(source)
        table.write_text(before)


@pytest.mark.parametrize("profile", ["local", "slurm", "ec2", "codespace"])
def test_bare_profile_names_resolve_from_the_root(profile, tmp_path):
    link = HOME / profile
    inside = profile == "codespace" and os.environ.get("CODESPACES") == "true"
    assert link.is_symlink() and os.readlink(link) == f"profiles/{profile}{'/inside' if inside else ''}", "make setup makes these links"
    import subprocess
    import sys

    command = [sys.executable, "-m", "snakemake", "--profile", profile, "--dry-run", "--quiet", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_all_five_suites_are_planned_whole(tmp_path):
    done = snakemake(tmp_path, "-n")
    assert done.returncode == 0, done.stderr
    for word in (
        "melody_transformer",
        "fusion",
        "magvit",
        "housebrain-shard01…06",
        "parkinsons-fold1…5",
        "merge_adapters",
        "validate_merge",
        "build_report",
    ):
        assert word in done.stdout + done.stderr, word


@pytest.mark.parametrize(
    "config, words",
    [(("suits=kmidi",), "suites"), (("only=melodie_transformer",), "melody_transformer"), (("scale=big",), "demo")],
)
def test_a_mistake_in_the_config_is_one_message_and_no_traceback(tmp_path, config, words):
    done = snakemake(tmp_path, "-n", config=config)
    text = done.stdout + done.stderr
    assert done.returncode != 0 and words in text and "Traceback" not in text
    assert len(text.strip().splitlines()) <= 6
