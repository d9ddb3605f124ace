"""Hosts with a real sshd, and a folder to run Snakemake in."""

import tempfile
from pathlib import Path

import pytest
from network import Network
from project import Project
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
