"""Snakemake's own suite for executor plugins, against a real sshd."""

import sys

import pytest
from snakemake.common.tests import TestWorkflowsLocalStorageBase

from snakemake_executor_plugin_ssh import ExecutorSettings


class TestSharedFilesystem(TestWorkflowsLocalStorageBase):
    """The host sees this machine's files."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _host(self, network):
        self.settings = ExecutorSettings(
            hosts=[network.add().name + ":cores=2"], config=network.config, python=sys.executable, unreachable_minutes=1
        )

    def get_executor(self) -> str:
        return "ssh"

    def get_executor_settings(self):
        return self.settings
