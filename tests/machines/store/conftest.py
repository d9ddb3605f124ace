"""Hosts with a real sshd, on a network of their own."""

import tempfile
from pathlib import Path

import pytest
from network import Network


@pytest.fixture
def network(debian):
    """Makes hosts that the test can cut off and kill; all gone afterwards."""
    debian("openssh-client", "openssh-server", "iproute2")
    made = Network(Path(tempfile.mkdtemp(prefix="ty-store-")))
    yield made
    made.close()
