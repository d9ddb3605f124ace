"""The hosts that jobs go to, from the machines file and from gh's list of Codespaces."""

from pathlib import Path

import pytest
import yaml
from trainyard.config.base import ConfigError
from trainyard.machines.hosts import codespaces, write_hosts

GH = """Host cs.fluffy-space-1234.main
\tUser codespace
\tProxyCommand gh cs ssh -c fluffy-space-1234 --stdio -- -i /home/me/.ssh/codespaces.auto
\tUserKnownHostsFile=/dev/null
\tStrictHostKeyChecking no
\tIdentityFile /home/me/.ssh/codespaces.auto

Host cs.other-5678.main
\tUser codespace

Host *
\tLogLevel quiet
"""


def written(tmp_path: Path, machines: str, spaces: str | None = None) -> tuple[dict, dict, set[str]]:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/machines.yaml").write_text(machines)
    if spaces is not None:
        (tmp_path / "config/ssh_codespaces").write_text(spaces)
    names = write_hosts(tmp_path / "config/machines.yaml", tmp_path, tmp_path / "yard")
    return *(yaml.safe_load((tmp_path / "yard" / name).read_text()) for name in ("hosts.yaml", "codespaces.yaml")), names


def test_only_machines_with_ssh_and_only_what_is_said_of_them(tmp_path):
    machines = """
machines:
  here: {cores: 4}
  box: {ssh: true}
  gpu: {ssh: true, kind: big, count: 2, gpus: 1}
  localhost: {ssh: true, cores: 2}
kinds:
  big: {cores: 8, memory_gb: 32}
"""
    boxes, _, names = written(tmp_path, machines)
    big = {"cores": 8, "mem_mb": 32000, "gpu": 1}
    assert boxes["hosts"] == {"box": {}, "gpu-1": big, "gpu-2": big, "localhost": {"cores": 2}}
    assert names == {"box", "gpu-1", "gpu-2", "localhost"}


def test_every_codespace_of_ghs_list_and_no_pattern(tmp_path):
    _, spaces, names = written(tmp_path, "machines: {here: {}}", GH)
    assert spaces["hosts"] == {"cs.fluffy-space-1234.main": {"gpu": 0}, "cs.other-5678.main": {"gpu": 0}}
    assert names == {"cs.fluffy-space-1234.main", "cs.other-5678.main"}


def test_none_is_none_with_a_word_about_what_to_write_where(tmp_path):
    boxes, spaces, names = written(tmp_path, "machines: {here: {}}")
    assert boxes["hosts"] == spaces["hosts"] == {} and not names
    assert "config/machines.yaml" in boxes["help"] and "ssh: true" in boxes["help"] and "gh codespace ssh --config" in spaces["help"]


def test_what_the_plugin_reads_is_what_was_written(tmp_path):
    from snakemake_executor_plugin_ssh.hosts import read_hosts
    from snakemake_interface_common.exceptions import WorkflowError

    written(tmp_path, "machines: {box: {ssh: true, cores: 3}}")
    (host,) = read_hosts([str(tmp_path / "yard/hosts.yaml")])
    assert (host.name, host.cores, host.mem_mb) == ("box", 3, None)
    with pytest.raises(WorkflowError, match="gh codespace ssh --config"):
        read_hosts([str(tmp_path / "yard/codespaces.yaml")])


def test_a_machines_file_that_is_none_is_one_message(tmp_path):
    with pytest.raises(ConfigError, match="unknown"):
        written(tmp_path, "machines: {box: {shh: true}}")


def test_a_list_that_cannot_be_read_is_one_message(tmp_path):
    (tmp_path / "list").write_bytes(b"Host \xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        codespaces(tmp_path / "list")
