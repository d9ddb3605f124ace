"""The slurm profile on a cluster that keeps accounts, and that forgets ended jobs within seconds: only sacct knows how they ended."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import slurm_accounts
from slurm_calls import PATIENCE, SECONDS
from slurm_cluster import PACKAGES, running_cluster
from slurm_processes import ask, wait_for

FLAKY = """
import pathlib, time
mark = pathlib.Path(__file__).with_suffix(".mark")
time.sleep(2)
if not mark.exists():
    mark.touch()
    raise SystemExit(3)
"""


@pytest.fixture(scope="module")
def two_nodes(debian):
    debian(*PACKAGES, *slurm_accounts.PACKAGES)
    folder = Path(tempfile.mkdtemp(prefix="trainyard-slurm-"))
    try:
        with running_cluster(folder, accounts=True) as found:
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_suite_to_the_end_where_accounts_are_kept(cluster, call, scripts, tmp_path, monkeypatch):
    overlay = scripts(train_flaky=FLAKY)
    folder = tmp_path / "work"
    folder.mkdir()
    # The real command, and a line about each call of it.
    told = tmp_path / "bin" / "sacct"
    told.parent.mkdir()
    told.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexec {shutil.which("sacct")} "$@"\n')
    told.chmod(0o755)
    monkeypatch.setenv("PATH", f"{told.parent}{os.pathsep}{os.environ['PATH']}")
    suite = call(folder, *overlay, *SECONDS, config=("only=als,train_flaky", "folds=2", "epochs=2", "subset_size=200"))
    assert suite.wait() == 0, suite.log()[-3000:]
    assert (folder / "results/report/index.html").exists()
    (run,) = re.findall(r"SLURM run ID: (\S+)", suite.log())
    assert f"--name {run}" in (tmp_path / "asked").read_text(), "sacct is what is asked here, by itself"
    assert wait_for(lambda: not cluster.jobs("--states=all"), PATIENCE), "the cluster itself has forgotten them"
    kept = [row.split("|") for row in ask("sacct", "-X", "-n", "-P", "-o", "Comment,State").splitlines()]
    tries = [state for comment, state in kept if comment.endswith("_train_flaky")]
    assert tries == ["FAILED", "COMPLETED"], "the account of each try"
    assert {state for comment, state in kept if "train_model" in comment} == {"COMPLETED"}
