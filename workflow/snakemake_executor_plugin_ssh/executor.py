"""The executor: Snakemake's jobs go into the book, links carry them out, and what becomes of them is told to Snakemake."""

import asyncio
import json
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import SharedFSUsage
from snakemake_interface_executor_plugins.utils import format_cli_arg

from .attempts import Attempt, Journal
from .begin import check_storage, hosts_of, prepare_command, sources_of, take_folder, take_up
from .book import Book
from .cancel import write_hosts
from .desk import ExecutorDesk
from .identity import job_key, job_label, job_need, job_spec, project_name
from .later import cancel_later
from .lease import lease_seconds, limit_seconds, poll_seconds
from .link import Link, Terms
from .openssh import OpenSSH, loopback_ports, silence_seconds
from .packages import packages_needed
from .reasons import none_usable
from .records import Event
from .settings import ExecutorSettings

_CANCEL_SECONDS = 12.0
_STOOD_STILL = 10.0  # seconds between two looks that are a second apart otherwise: this process was stopped (Ctrl+Z)


class Executor(RemoteExecutor):
    """See the README for what it promises."""

    _links: dict[str, Link] = {}

    def __post_init__(self) -> None:
        settings: ExecutorSettings = self.workflow.executor_settings
        storage = self.workflow.storage_settings
        self._shared = storage.assume_common_workdir
        self._shared_outputs = SharedFSUsage.INPUT_OUTPUT in storage.shared_fs_usage
        check_storage(storage)
        hosts = hosts_of(settings)
        self.home = Path(".snakemake", "ssh").absolute()
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        self._lock_file = take_folder(self.home)
        self._manifest = sources_of(self.workflow, self.snakefile, settings.max_source_mb)
        if found := self._manifest:
            self.note(f"{len(found.entries)} source files, {found.megabytes:.1f} MB, version {found.version[:8]}")
        limit = limit_seconds(settings.unreachable_minutes)
        journal = Journal(self.home / "attempts")
        self._looked = time.monotonic()
        self.lock_, self._news = threading.RLock(), threading.Event()
        self.book = Book([host.name for host in hosts], limit, journal, time.monotonic())
        self._earlier, notes = take_up(journal, self.book, settings.unreachable_minutes)
        for text in notes:
            self.note(text, warning=True)
        self._infos: dict[str, SubmittedJobInfo] = {}
        self._unsettled: dict[int, tuple[str, str]] = {}
        self._sockets = Path(tempfile.mkdtemp(prefix="smk-ssh-"))
        config = settings.config.absolute() if settings.config else None
        ssh = OpenSSH(config, self._sockets, silence_seconds(settings.silence_seconds))
        project = project_name(Path.cwd())
        write_hosts(self.home, hosts, config, project)
        poll = float(max(1, self.workflow.remote_execution_settings.seconds_between_status_checks))
        lease = lease_seconds(limit, poll, shared=self._shared_outputs)
        terms = Terms(
            project=project,
            lease=lease,
            poll=poll_seconds(poll, lease),
            packages=packages_needed(self.workflow, settings.requirements),
            forward=tuple(settings.forward) or loopback_ports(self.envvars().values()),
            manifest=self._manifest,
            prepare=partial(prepare_command, settings=settings),
            signs=not self._shared_outputs,
        )
        desk = ExecutorDesk(self, settings, os.getcwd() if self._shared else None, self._manifest, self._shared_outputs)
        self._links = {host.name: Link(host, desk, terms, ssh) for host in hosts}
        for link in self._links.values():
            link.start()

    # --- what Snakemake calls

    def get_python_executable(self) -> str:
        # "exec": the process that hands in results must be the one that the supervisor started.
        python = super().get_python_executable()
        return f"exec {shlex.quote(python)}"

    def run_job(self, job: JobExecutorInterface) -> None:
        key, version = job_key(job), self._manifest.version if self._manifest else None
        spec = job_spec(job, version, self.workflow.config_settings.config_args)
        info = SubmittedJobInfo(job, aux={"key": key, "ended": False, "command": self._command(job)})
        with self.lock_:
            self._infos[key] = info
            taken = self.book.submit(key, job_need(job), spec, job.name, self._earlier.pop(key, []))
        if taken is not None:
            self.note(f"{job_label(job)} goes on: attempt {taken.token} on host {taken.host}")
        self._wake()

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        if not self._links:
            return  # The base class starts its thread before __post_init__.
        self._news.clear()
        now = time.monotonic()
        with self.lock_:
            nobody = none_usable(self.book.hosts[name] for name in self._links) if self._infos else ""
        if nobody:
            # Once for all jobs, and before each has used up its retries. Local jobs that no host is needed for were let go on so far.
            self._links = {}
            self.broken(WorkflowError(nobody))
            return
        with self.lock_:
            if (still := now - self._looked) > _STOOD_STILL:
                self.book.stood_still(still)
            self.book.tick(now)
            events, self.book.events = self.book.events, []
        self._looked = now
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
            self.note(cancel_later(self.home, left), warning=True)

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

    def command(self, attempt: Attempt) -> str:
        """What its job runs."""
        return self._infos[attempt.job].aux["command"]

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
        label = job_label(info.job)
        if event.kind == "started":
            info.external_jobid = f"{event.host}/{event.token}"
            # In a form for programs too: loggers find out where a job runs.
            self.logger.info(f"ssh: {label} runs on host {event.host}", extra={"ssh_jobid": info.job.jobid, "ssh_host": event.host})
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
        self.report_job_error(info, msg=f"{label}{event.how()}. ", aux_logs=[log] if log else [])

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

    def _command(self, job: JobExecutorInterface) -> str:
        exec_job = self.format_job_exec(job)
        if not self._shared:
            # The folder that was asked for with --directory is this machine's; a job has one of its own.
            exec_job = exec_job.replace(format_cli_arg("--directory", self.workflow.overwrite_workdir), "", 1)
        return exec_job if self.is_default_jobscript else self.jobscript.format(properties=json.dumps(job.properties()), exec_job=exec_job)
