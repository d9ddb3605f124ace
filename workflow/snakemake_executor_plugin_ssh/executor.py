"""The executor: Snakemake's jobs go into the book, links carry them out, and what becomes of them is told to Snakemake."""

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import SharedFSUsage

from .admission import Need
from .attempts import Attempt, Journal
from .book import Book, Event
from .cancel import lock_folder, write_hosts
from .hosts import Host, read_hosts
from .later import cancel_later
from .lease import lease_seconds
from .link import Link, Terms
from .manifest import Manifest, make_manifest
from .openssh import OpenSSH, loopback_ports
from .packages import packages_needed
from .settings import ExecutorSettings

_CANCEL_SECONDS = 12.0
_CANCELLER_SECONDS = 60.0


class Executor(RemoteExecutor):
    """See the README for what it promises."""

    _links: dict[str, Link] = {}

    def __post_init__(self) -> None:
        settings: ExecutorSettings = self.workflow.executor_settings
        storage = self.workflow.storage_settings
        self._shared = storage.assume_common_workdir
        self._shared_outputs = SharedFSUsage.INPUT_OUTPUT in storage.shared_fs_usage
        if not self._shared_outputs and storage.default_storage_provider is None:
            raise WorkflowError(
                "without a shared filesystem, files travel through a storage: set --default-storage-provider and --default-storage-prefix"
            )
        hosts = [
            replace(host, python=sys.executable if host.local and host.python is None else host.python or settings.python,
                    workdir=host.workdir or settings.workdir)
            for host in read_hosts(settings.hosts)
        ]  # fmt: skip
        self._settings = settings
        self._home = Path(".snakemake", "ssh").absolute()
        (self._home / "logs").mkdir(parents=True, exist_ok=True)
        self._only_one()
        self._manifest = self._sources()
        limit = settings.unreachable_minutes * 60 or None
        journal = Journal(self._home / "attempts")
        self.lock_, self._news = threading.RLock(), threading.Event()
        self.book = Book([host.name for host in hosts], limit, journal, time.monotonic())
        self._earlier: dict[str, list[Attempt]] = {}
        self._take_up(journal, hosts)
        self._infos: dict[str, SubmittedJobInfo] = {}
        self._unsettled: dict[int, tuple[str, str]] = {}
        self._sockets = Path(tempfile.mkdtemp(prefix="smk-ssh-"))
        config = settings.config.absolute() if settings.config else None
        ssh = OpenSSH(config, self._sockets)
        write_hosts(self._home, hosts, config, self._project())
        poll = float(max(1, self.workflow.remote_execution_settings.seconds_between_status_checks))
        terms = Terms(
            project=self._project(),
            lease=lease_seconds(limit, poll, shared=self._shared_outputs),
            poll=poll,
            packages=packages_needed(self.workflow, settings.requirements),
            forward=tuple(settings.forward) or loopback_ports(self.envvars().values()),
            manifest=self._manifest,
            prepare=self._prepare_command,
        )
        self._links = {host.name: Link(host, self.desk, terms, ssh) for host in hosts}
        for link in self._links.values():
            link.start()

    @property
    def desk(self) -> "_Desk":
        return _Desk(self)

    # --- what Snakemake calls

    def get_python_executable(self) -> str:
        # "exec": the process that hands in results must be the one that the supervisor started.
        python = super().get_python_executable()
        return f"exec {shlex.quote(python)}"

    def run_job(self, job: JobExecutorInterface) -> None:
        key = self._key(job)
        info = SubmittedJobInfo(job, aux={"key": key, "ended": False, "command": self._command(job)})
        with self.lock_:
            self._infos[key] = info
            taken = self.book.submit(key, self._need(job), self._spec(job), job.name, self._earlier.pop(key, []))
        if taken is not None:
            self.note(f"job {job.jobid} ({job.name}) goes on: attempt {taken.token} on host {taken.host}")
        self._wake()

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        if not self._links:
            return  # The base class starts its thread before __post_init__.
        self._news.clear()
        with self.lock_:
            self.book.tick(time.monotonic())
            events, self.book.events = self.book.events, []
        self._wake()
        for event in events:
            self._tell_snakemake(event)
        for info in active_jobs:
            if not info.aux["ended"]:
                yield info

    async def sleep(self) -> None:
        until = time.monotonic() + 1.0
        while time.monotonic() < until and self.wait and not (self._links and self._news.is_set()):
            await asyncio.sleep(0.05)

    def handle_job_success(self, job: JobExecutorInterface) -> None:
        self._settle(job)

    def handle_job_error(self, job: JobExecutorInterface) -> None:
        self._settle(job)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        with self.lock_:
            self.book.cancel_all()
        self._wake()
        until = time.monotonic() + _CANCEL_SECONDS
        while time.monotonic() < until and (left := self._not_ended(connected=True)):
            time.sleep(0.1)
        if left := self._not_ended(connected=False):
            self.note(cancel_later(self._home, left), warning=True)

    def shutdown(self) -> None:
        super().shutdown()
        for link in self._links.values():
            link.stop()
        until = time.monotonic() + 10
        for link in self._links.values():
            link.join(max(0.0, until - time.monotonic()))
        shutil.rmtree(self._sockets, ignore_errors=True)
        if left := sum(self.book.kept_on(name) for name in self.book.hosts):
            self.note(f"{left} jobs of an earlier run that this one did not need are still running; a run that needs them takes them over, "
                      "and `python -m snakemake_executor_plugin_ssh cancel` ends them", warning=True)  # fmt: skip
        os.close(self._lock_file)

    # --- what links call

    def payload(self, attempt: Attempt) -> dict[str, Any]:
        """Everything a host needs to start a job. Only here are the values of environment variables: they travel in the connection and
        are kept in memory, on this side and that."""
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, attempt.gpus))} if attempt.need.gpu else {}
        return {
            "token": attempt.token,
            "command": self._infos[attempt.job].aux["command"],
            "environment": {**self.envvars(), **visible},
            "directory": os.getcwd() if self._shared else None,
            "version": self._manifest.version if self._manifest else None,
            "keep": self._settings.keep,
            "hold": "all" if self._shared_outputs else "uploader",
            "log_limit": int(self._settings.max_log_mb * 1e6),
            "grace": 5.0,
        }

    def log_file(self, attempt: Attempt) -> Path:
        return self._home / "logs" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', attempt.name)[:80]}-{attempt.token}.log"

    def note(self, text: str, warning: bool = False) -> None:
        (self.logger.warning if warning else self.logger.info)(f"ssh: {text}")

    def broken(self, problem: Exception) -> None:
        """A mistake of ours in a link's thread: it ends the run, as one in this thread would."""
        self.workflow.scheduler.executor_error_callback(problem)

    def stir(self) -> None:
        self._news.set()
        self._wake()

    # --- inside

    def _wake(self) -> None:
        with self.lock_:
            stirred, self.book.stirred = self.book.stirred, set()
        for name in stirred & self._links.keys():
            self._links[name].wake()

    def _tell_snakemake(self, event: Event) -> None:
        info = self._infos.get(event.job)
        if info is None:
            return
        label = f"job {info.job.jobid} ({info.job.name})"
        if event.kind == "started":
            info.external_jobid = f"{event.host}/{event.token}"
            self.note(f"{label} runs on host {event.host}")
            self.report_job_submission(info)
            return
        if event.kind == "lost":
            self.note(f"{label}: host {event.host} was given up ({event.text}); it starts elsewhere", warning=True)
            return
        info.aux["ended"] = True
        del self._infos[event.job]
        if event.token:
            self._unsettled[id(info.job)] = (event.host, event.token)
        if event.kind == "finished":
            self.report_job_success(info)
            return
        log = event.status.get("log")
        where = f" on host {event.host}" if event.host else ""
        rc = event.status.get("rc")
        how = event.text or (f"signal {-rc}" if rc is not None and rc < 0 else f"exit code {rc}")
        self.report_job_error(info, msg=f"{label}{where}: {how}. ", aux_logs=[log] if log else [])

    def _settle(self, job: JobExecutorInterface) -> None:
        if found := self._unsettled.pop(id(job), None):
            with self.lock_:
                self.book.settled(*found)

    def _not_ended(self, connected: bool) -> dict[str, int]:
        """Attempts that are to end and have not: {host: how many}."""
        with self.lock_:
            return {
                name: count
                for name, host in self.book.hosts.items()
                if (count := self.book.revoked_on(name)) and (host.link == "up" or not connected)
            }

    def _only_one(self) -> None:
        """Two controllers in one folder would take each other's jobs for strays and end them."""
        until = time.monotonic() + _CANCELLER_SECONDS
        while (lock := lock_folder(self._home, "run")) is None:
            if time.monotonic() > until or (self._home / "lock").read_text().strip() != "cancel":
                raise WorkflowError(
                    f"another snakemake is running jobs over ssh from this folder ({Path.cwd()}); wait for it, or use another folder"
                )
            time.sleep(0.2)
        self._lock_file = lock

    def _sources(self) -> Manifest | None:
        if SharedFSUsage.SOURCES in self.workflow.storage_settings.shared_fs_usage:
            return None
        always = [self.snakefile, *(os.path.relpath(path) for path in self.workflow.overwrite_configfiles)]
        manifest = make_manifest(Path.cwd(), always, self._settings.max_source_mb)
        self.note(f"{len(manifest.entries)} source files, {manifest.megabytes:.1f} MB, version {manifest.version[:8]}")
        return manifest

    def _take_up(self, journal: Journal, hosts: list[Host]) -> None:
        """What another life of this controller left."""
        names = {host.name for host in hosts}
        for attempt in journal.read():
            if attempt.revoked:
                self.book.revoke(attempt)
            else:
                self._earlier.setdefault(attempt.job, []).append(attempt)
                self.book.keep(attempt)
            if attempt.host not in names:
                self.note(f"{attempt.name} may still run on host {attempt.host}, which is not among the hosts: it starts elsewhere after "
                          f"{self._settings.unreachable_minutes:g} minutes; name the host to have it now", warning=True)  # fmt: skip

    def _project(self) -> str:
        where = f"{socket.gethostname()}:{Path.cwd()}"
        return f"{re.sub(r'[^A-Za-z0-9_-]', '_', Path.cwd().name)[:40]}-{hashlib.sha256(where.encode()).hexdigest()[:10]}"

    def _prepare_command(self, host: Host) -> str:
        command = ["python", "-m", "snakemake_executor_plugin_ssh", "prepare", host.name]
        if self._settings.config:
            command += ["--ssh-config", str(self._settings.config)]
        if host.python != ExecutorSettings.python:
            command += ["--python", host.python or ""]
        if self._settings.requirements:
            command += ["--requirements", str(self._settings.requirements)]
        return shlex.join(command)

    def _command(self, job: JobExecutorInterface) -> str:
        if self.is_default_jobscript:
            return self.format_job_exec(job)
        return self.jobscript.format(properties=json.dumps(job.properties()), exec_job=self.format_job_exec(job))

    def _key(self, job: JobExecutorInterface) -> str:
        """Which job this is, in this run and the next."""
        return hashlib.sha256("\0".join(sorted(map(str, job.get_target_spec()))).encode()).hexdigest()[:24]

    def _spec(self, job: JobExecutorInterface) -> str:
        """What exactly is run: an attempt with another spec is no attempt at this job."""
        parts = list(job) if job.is_group() else [job]
        content = [
            {
                "rule": part.rule.name,
                "input": list(map(str, part.input)),
                "output": list(map(str, part.output)),
                "params": repr(part.params),
            }
            for part in parts
        ]
        whole = [content, self._manifest.version if self._manifest else None, repr(self.workflow.config_settings.config_args)]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:24]

    def _need(self, job: JobExecutorInterface) -> Need:
        def number(name: str) -> int:
            value = job.resources.get(name, 0)
            return value if isinstance(value, int) else 0

        host = job.resources.get("host")
        cores = max(1, number("_cores") or job.threads)
        return Need(cores, number("mem_mb"), number("gpu"), host if isinstance(host, str) and host else None)


class _Desk:
    """The executor as links see it: `lock` is the book's, not the base class's."""

    def __init__(self, executor: Executor):
        self._executor, self.lock, self.book = executor, executor.lock_, executor.book
        self.payload, self.log_file, self.note = executor.payload, executor.log_file, executor.note
        self.stir, self.broken = executor.stir, executor.broken
