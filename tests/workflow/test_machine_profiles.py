"""Profiles for other machines, without any: a dry run works, a run says what to write where, and a plan names only hosts there are."""

import subprocess
import sys

import pytest
import yaml
from workflow_runs import HOME


def snakemake(folder, *args: str, **config) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile"), "-d", str(folder), *args, "--config", "suites=aimedres"]
    command += [f"{key}={value}" for key, value in config.items()]
    return subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "profile, words",
    [
        ("ec2", ("config/machines.yaml", "`ssh: true`", "config/ssh_hosts")),
        ("codespace", ("gh codespace ssh --config > config/ssh_codespaces",)),
    ],
)
def test_without_machines_a_dry_run_works_and_a_run_says_what_to_do(profile, words, tmp_path):
    dry = snakemake(tmp_path, "--profile", f"profiles/{profile}", "-n")
    assert dry.returncode == 0 and "train_model" in dry.stdout + dry.stderr, dry.stderr[-2000:]
    run = snakemake(tmp_path, "--profile", f"profiles/{profile}")
    text = run.stdout + run.stderr
    assert run.returncode == 1 and all(word in " ".join(text.split()) for word in words) and "Traceback" not in text, text
    assert not (tmp_path / "results/aimedres").exists(), "nothing was begun"
    assert not (tmp_path / ".trainyard/store.json").exists(), "and no store is left running"


def test_hosts_are_those_of_the_machines_file_that_is_named(tmp_path):
    machines = tmp_path / "mine.yaml"
    machines.write_text("machines: {my-box: {ssh: true, cores: 3}}")
    dry = snakemake(tmp_path, "--profile", "profiles/ec2", "-n", machines=machines)
    assert dry.returncode == 0, dry.stderr[-2000:]
    assert yaml.safe_load((tmp_path / ".trainyard/hosts.yaml").read_text())["hosts"] == {"my-box": {"cores": 3}}


def test_the_profile_for_inside_a_codespace_runs_on_the_spot_without_a_store(tmp_path):
    done = snakemake(tmp_path, "--profile", "profiles/codespace/inside", "-n")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".trainyard").exists()


def test_a_storage_that_cannot_start_is_one_message(tmp_path):
    (tmp_path / ".trainyard").write_text("a file where the folder should be")
    done = snakemake(tmp_path, "--profile", "profiles/ec2", "-n")
    text = done.stdout + done.stderr
    assert done.returncode == 1 and "error: the object store cannot be kept in" in " ".join(text.split()) and "Traceback" not in text, text


def test_a_plan_asks_for_no_host_that_is_not_there():
    sys.path.insert(0, str(HOME / "workflow"))
    from types import SimpleNamespace

    from trainyard.dag.follow import Follow

    follow = Follow(None)
    follow.__dict__["_hosts"] = {("s", "a"): "here", ("s", "b"): "box"}
    a, b = SimpleNamespace(suite="s", run="a"), SimpleNamespace(suite="s", run="b")
    assert (follow.host(a), follow.host(b)) == ("here", "box")
    follow.reachable = frozenset({"box"})
    assert (follow.host(a), follow.host(b)) == (None, "box")
