"""Snakemake executor plugin: jobs on machines that OpenSSH reaches."""

from snakemake_interface_executor_plugins.settings import CommonSettings

from .executor import Executor
from .settings import ExecutorSettings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    # Values go over the connection, not into the command.
    pass_envvar_declarations_to_cmd=False,
    # The environment is prepared once and compared, not installed again by every job.
    auto_deploy_default_storage_provider=False,
    # Sources go by a manifest of our own, untracked files too.
    can_transfer_local_files=True,
)
