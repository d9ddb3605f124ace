"""Hosts with a real sshd, and a folder to run Snakemake in."""

import tempfile
from pathlib import Path

import pytest
from desk import Desk
from network import Network, run
from project import Project
from snakemake_executor_plugin_ssh.hosts import Host
from store import Store


@pytest.fixture
def network(debian):
    """Makes hosts that the test can cut off, kill and fill; all gone afterwards."""
    debian("openssh-client", "openssh-server", "iproute2", "libfaketime", "procps")
    # Not pytest's own folder: the paths of control sockets must be short, and hosts are removed with all they hold.
    made = Network(Path(tempfile.mkdtemp(prefix="ty-ssh-")))
    yield made
    made.close()


@pytest.fixture
def desk(network):
    """A function that makes a desk for some hosts."""
    made = []

    def make(*hosts: Host, **options) -> Desk:
        made.append(Desk(network, list(hosts), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def store(network):
    """An object store of its own for each test."""
    made = Store(network.folder / "store")
    yield made
    made.stop()


@pytest.fixture
def project(network):
    """A function that makes a workflow on some hosts; what still runs of it afterwards is ended."""
    made = []

    def make(*arguments, **options) -> Project:
        made.append(Project(network, *arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def small_disk(network):
    """A function that makes a disk of some megabytes below the network's folder."""
    made = []

    def make(name: str, megabytes: float) -> Path:
        folder = network.folder / name
        folder.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "tmpfs", str(folder))
        made.append(folder)
        return folder

    yield make
    for folder in made:
        run("umount", "-l", str(folder), check=False)


@pytest.fixture
def skewed(network):
    """A function that makes the environment of a host whose processes are told another time."""

    def make(skew: str) -> dict[str, str]:
        library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
        if library is None:
            pytest.skip("needs libfaketime")
        return {"LD_PRELOAD": str(library), "FAKETIME": skew}

    return make
