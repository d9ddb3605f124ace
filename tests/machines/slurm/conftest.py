"""A Slurm of two nodes for the tests of this folder, calls of the workflow on it, and trainings to compare with."""

import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import fuse_mount
import pytest
from slurm_calls import RUNS, SMALL, Call, models
from slurm_cluster import PACKAGES, running_cluster


@pytest.fixture(scope="module")
def two_nodes(debian):
    debian(*PACKAGES)
    folder = Path(tempfile.mkdtemp(prefix="trainyard-slurm-"))
    try:
        with running_cluster(folder) as found:
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert not found.processes() and not any(daemon.poll() is None for daemon in found.daemons.values())


@pytest.fixture
def cluster(two_nodes):
    """The cluster without anything that an earlier test left."""
    two_nodes.recover()
    return two_nodes


@pytest.fixture
def call(cluster):
    """Starts calls, and ends those that a failing test leaves, with their jobs."""
    started: list[Call] = []

    def start(*args, **options) -> Call:
        started.append(Call(*args, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The two trainings as they are on this machine, without Slurm."""
    folder = tmp_path_factory.mktemp("undisturbed")
    local = Call(folder, *models(*RUNS), profile=None, config=(*SMALL, "gpu_slots=1"))
    try:
        assert local.wait() == 0, local.log()[-3000:]
    finally:
        local.close()
    return folder


@pytest.fixture
def untrained(undisturbed, tmp_path) -> Path:
    """A folder where everything is done but the trainings."""
    folder = tmp_path / "work"
    shutil.copytree(undisturbed, folder)
    for name in ("results/aimedres/runs", "checkpoints", "logs"):
        shutil.rmtree(folder / name)
    return folder


@pytest.fixture
def scripts(tmp_path):
    """Found scripts, as a folder for the configuration."""

    def write(**sources: str) -> tuple[str, str]:
        folder = tmp_path / "scripts"
        folder.mkdir()
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(source)
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(f"aimedres: {{discover: {{root: {folder}, minutes: 5}}}}\n")
        return "--configfile", str(overlay)

    return write


@pytest.fixture
def far_packs(untrained):
    """The folder where the packs of `untrained` lie, which shows them through a mount as of a machine elsewhere."""
    if reason := fuse_mount.can_mount():
        pytest.skip(reason)
    point, far = untrained / "results/aimedres/packs/als", untrained / "far"
    point.rename(far)
    point.mkdir()
    command = [sys.executable, fuse_mount.__file__, point, "fuse.sshfs", "elsewhere", "0", far]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None and server.stdout.readline() == "mounted\n"
        threading.Thread(target=server.stdout.read, daemon=True).start()  # it says what is opened
        yield far
    finally:
        fuse_mount.unmount(point)
        server.kill()
        server.wait(10)
