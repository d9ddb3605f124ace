"""Tests on real servers: Slurm, sshd, an object store. Each asks for the Debian packages it needs and is skipped, with the reason,
where they cannot be had."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest


@cache
def missing(packages: tuple[str, ...]) -> str:
    """Why these packages cannot be had here; empty when they are installed."""
    if os.geteuid() != 0:
        return "needs root: it makes network namespaces and starts system services"
    if not shutil.which("apt-get"):
        return "needs Debian or Ubuntu: it installs " + " ".join(packages)
    known = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}\n", *packages], capture_output=True, text=True)
    if known.returncode == 0 and set(known.stdout.split()) == {"installed"}:
        return ""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with open(Path(tempfile.gettempdir()) / "trainyard-test-packages.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # apt is for one at a time, and these tests run in two processes
        return _install(packages, environment)


def _install(packages: tuple[str, ...], environment: dict[str, str]) -> str:
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
        if done.returncode:
            return f"{' '.join(command[:2])} failed: {done.stderr.strip().splitlines()[-1:]}"
    return ""


@pytest.fixture(scope="session")
def debian():
    """A function that installs Debian packages, or skips the test that asks."""

    def needs(*packages: str) -> None:
        if reason := missing(packages):
            pytest.skip(reason)

    return needs
