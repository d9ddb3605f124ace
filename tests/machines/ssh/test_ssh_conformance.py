"""Snakemake's own suite for executor plugins, against a real sshd."""

import sys

import pytest
from snakemake.common.tests import TestWorkflowsBase, TestWorkflowsLocalStorageBase
from snakemake_executor_plugin_ssh import ExecutorSettings
from snakemake_interface_common.plugin_registry.plugin import TaggedSettings
from snakemake_storage_plugin_s3 import StorageProviderSettings
from store import KEY, SECRET


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


class TestNothingShared(TestWorkflowsBase):
    """Sources go to the host by the plugin's manifest, files by an object store that the host reaches through the connection."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _host(self, network, store, monkeypatch, tmp_path):
        self.store = store
        host = network.add()
        self.settings = ExecutorSettings(
            hosts=[f"{host.name}:cores=2,workdir={host.home}/work"], config=network.config, python=sys.executable, forward=[store.port]
        )

    def get_executor(self) -> str:
        return "ssh"

    def get_executor_settings(self):
        return self.settings

    def get_assume_shared_fs(self) -> bool:
        return False

    def get_default_storage_provider(self):
        return "s3"

    def get_default_storage_prefix(self):
        return "s3://bucket"

    def get_default_storage_provider_settings(self):
        tagged = TaggedSettings()
        tagged.register_settings(StorageProviderSettings(endpoint_url=self.store.url, access_key=KEY, secret_key=SECRET))
        return {"s3": tagged}
