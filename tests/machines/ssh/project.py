"""A small workflow in a folder of its own, run by a real Snakemake over ssh."""

import os
import signal
import subprocess
import sys

from desk import wait_for
from network import Host, Network
from store import Store

SNAKEMAKE = [sys.executable, "-m", "snakemake"]


class Project:
    """`run` starts Snakemake in `folder`; what it prints is in `said`."""

    def __init__(self, network: Network, hosts: list[Host], store: Store | None, snakefile: str, minutes: float = 5.0):
        self.folder = network.folder / "project"
        self.folder.mkdir()
        (self.folder / "Snakefile").write_text(snakefile)
        self._log = network.folder / "snakemake.log"
        self.arguments = ["--executor", "ssh", "--ssh-config", str(network.config), "--ssh-python", sys.executable]
        self.arguments += [
            "--ssh-unreachable-minutes",
            str(minutes),
            "--jobs",
            "8",
            "--latency-wait",
            "3",
            "--seconds-between-status-checks",
            "1",
        ]
        self.arguments += ["--ssh-hosts", *(f"{host.name}:cores=2,workdir={host.home}/work" for host in hosts)]
        self.environment = dict(os.environ)
        if store:
            self.arguments += ["--shared-fs-usage", "none", "--default-storage-provider", "s3", "--default-storage-prefix", "s3://bucket"]
            self.arguments += ["--ssh-forward", str(store.port), "--storage-s3-retries", "20"]
            self.environment |= store.environment
        self.process: subprocess.Popen | None = None

    def start(self, *more: str) -> None:
        with open(self._log, "ab") as log:
            # Shells start background jobs with SIGINT ignored, and whoever runs the tests may have.
            self.process = subprocess.Popen(
                [*SNAKEMAKE, *self.arguments, *more], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def until_said(self, text: str, seconds: float = 60) -> None:
        def said_or_ended() -> bool:
            return text in self.said or self.process.poll() is not None

        wait_for(said_or_ended, seconds, lambda: f"'{text}' was not said:\n{self.said[-3000:]}")
        assert text in self.said, self.said[-3000:]

    def result(self, seconds: float = 90) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not finished after {seconds} s:\n{self.said[-4000:]}") from None

    def run(self, *more: str, seconds: float = 90) -> int:
        self.start(*more)
        return self.result(seconds)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
