"""A small workflow in a folder of its own, run by a real Snakemake over ssh."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from desk import SILENCE, wait_for
from network import Host, Network
from store import Store

SNAKEMAKE = [sys.executable, "-m", "snakemake"]
# A job that tells when it begins and goes on, ends when it is let go, and hands in who made it.
TRAIN = """
rule all:
    input: expand("out/{{i}}.txt", i=range({jobs}))

rule train:
    output: "out/{{i}}.txt"
    shell:
        "echo begin $SNAKEMAKE_SSH_TOKEN >> {story}; until [ -e {go} ]; do sleep 0.2; done; "
        "echo end $SNAKEMAKE_SSH_TOKEN >> {story}; echo $SNAKEMAKE_SSH_TOKEN > {{output}}"
"""


class Project:
    """`run` starts Snakemake in `folder`; what it prints is in `said`."""

    def __init__(self, network: Network, hosts: list[Host], store: Store | None, snakefile: str = "", minutes: float = 5.0, jobs: int = 1):
        """`snakefile`: by default so many `jobs` that wait for `go`."""
        self.folder = network.folder / "project"
        self.folder.mkdir(exist_ok=True)
        self.go, self._story = network.folder / "go", network.folder / "story"
        (self.folder / "Snakefile").write_text(snakefile or self.train(jobs, self.go))
        self._log = network.folder / "snakemake.log"
        self.arguments = ["--executor", "ssh", "--ssh-config", str(network.config), "--ssh-python", sys.executable]
        self.arguments += ["--ssh-unreachable-minutes", str(minutes), "--ssh-silence-seconds", str(SILENCE), "--jobs", "8"]
        self.arguments += ["--latency-wait", "3", "--seconds-between-status-checks", "1"]
        self.arguments += ["--ssh-hosts", *(f"{host.name}:cores=2,workdir={host.home}/work" for host in hosts)]
        self.environment = dict(os.environ)
        if store:
            self.arguments += ["--shared-fs-usage", "none", "--default-storage-provider", "s3", "--default-storage-prefix", "s3://bucket"]
            self.arguments += ["--ssh-forward", str(store.port), "--storage-s3-retries", "20"]
            self.environment |= store.environment
        self.process: subprocess.Popen | None = None

    def train(self, jobs: int, go: Path) -> str:
        """The Snakefile of so many jobs that wait for `go`."""
        return TRAIN.format(jobs=jobs, story=self._story, go=go)

    def story(self) -> list[list[str]]:
        """What the jobs told: ["begin" or "end", who]."""
        return [line.split() for line in self._story.read_text().splitlines()] if self._story.exists() else []

    def until_begun(self, jobs: int = 1) -> None:
        wait_for(lambda: len(self.story()) >= jobs, 60, lambda: f"no job began:\n{self.said[-3000:]}")

    def start(self, *more: str) -> None:
        with open(self._log, "ab") as log:
            # Shells start background jobs with SIGINT ignored, and whoever runs the tests may have.
            self.process = subprocess.Popen(
                [*SNAKEMAKE, *self.arguments, *more], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        logs = sorted((self.folder / ".snakemake" / "ssh" / "logs").glob("*.log"))
        return "\n".join(path.read_text(errors="replace") for path in [*logs, self._log])

    def until_said(self, text: str, seconds: float = 60, times: int = 1) -> None:
        def said_or_ended() -> bool:
            return self.said.count(text) >= times or self.process.poll() is not None

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

    def unlock(self) -> None:
        """After a kill."""
        subprocess.run([*SNAKEMAKE, "--unlock"], cwd=self.folder, timeout=60, check=True, capture_output=True)

    def signal_all(self, number: int) -> None:
        """To Snakemake and everything it has started here, its connections too."""
        whole = psutil.Process(self.process.pid)
        for process in [whole, *whole.children(recursive=True)]:
            process.send_signal(number)

    def attempts(self) -> list[Path]:
        """Records of attempts that may still be running."""
        return list((self.folder / ".snakemake" / "ssh" / "attempts").glob("*.json"))

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
