"""Hosts with a real sshd, and a folder to run Snakemake in."""

import tempfile
from pathlib import Path

import pytest
from network import Network


@pytest.fixture
def network(debian):
    """Makes hosts that the test can cut off, kill and fill; all gone afterwards."""
    debian("openssh-client", "openssh-server", "iproute2")
    # Not pytest's own folder: the paths of control sockets must be short, and hosts are removed with all they hold.
    made = Network(Path(tempfile.mkdtemp(prefix="ty-ssh-")))
    yield made
    made.close()
