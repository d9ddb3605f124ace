"""A real Slurm of two virtual nodes on this machine: munge, slurmctld and a slurmd a node, children of this process.

The jobs of a node are processes of this machine. A slurm.conf must lie at /etc/slurm, for a job's environment keeps no path to another.
"""

import fcntl
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import slurm_accounts
from slurm_processes import ask, end_all, family, free_ports, wait_for

PACKAGES = ("slurm-wlm", "slurmctld", "slurmd", "slurm-client", "munge")
ETC = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf", "slurmdbd.conf")
LOCK = Path("/run/lock/trainyard-test-slurm")
NODES = ("n1", "n2")
COLUMNS = {"id": "%i", "name": "%j", "state": "%T", "node": "%N", "partition": "%P", "memory": "%m", "limit": "%l", "comment": "%k"}

# SlurmdTimeout is short, so that a dead node is soon known to be.
CONF = """
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
KillWait=5
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=2
TaskProlog={folder}/task_prolog
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs={cpus} RealMemory=4000 Gres=gpu:fake:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 LLN=YES State=UP
PartitionName=gpu Nodes=n1 MaxTime=60 State=UP
"""
# As on clusters that give their jobs a folder on the node's disk.
PROLOG = """#!/bin/sh
mkdir -p {disk}
echo export SLURM_TMPDIR={disk}
"""


class Cluster:
    """Nodes n1 (two fake GPUs) and n2, of `cpus` cores each; partitions main (both) and gpu (n1)."""

    def __init__(self, folder: Path, cpus: int = 2, accounts: bool = False):
        self.folder, self.cpus, self.accounts = folder, cpus, accounts
        self.name = f"trainyard{os.getpid()}"  # Slurm tells it to every job, by the environment
        self.daemons: dict[str, subprocess.Popen] = {}
        self._stopping = threading.Event()
        self._forgotten = 0  # jobs up to this number are another test's

    def disk(self, node: str) -> Path:
        """What stands for a node's own disk, $SLURM_TMPDIR of its jobs."""
        return self.folder / f"disk-{node}"

    # ---- start and stop ----------------------------------------------------------------------------------------
    def start(self) -> None:
        """Up and both nodes idle. Raises RuntimeError with the logs' ends."""
        for name in ("state", "spool-n1", "spool-n2"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        gpus = [self.folder / f"gpu{i}" for i in range(2)]
        for gpu in gpus:
            os.mknod(gpu, 0o20666, os.makedev(1, 3))  # as good as a GPU's device file: nobody opens it
        host = socket.gethostname().partition(".")[0]
        port, port1, port2, dbd = free_ports(4)
        conf = CONF.format(name=self.name, folder=self.folder, host=host, port=port, port1=port1, port2=port2, cpus=self.cpus)
        conf += slurm_accounts.CONF.format(folder=self.folder, port=dbd) if self.accounts else slurm_accounts.NONE
        (self.folder / "slurm.conf").write_text(conf)
        prolog = self.folder / "task_prolog"
        prolog.write_text(PROLOG.format(disk=self.disk("$SLURMD_NODENAME")))
        prolog.chmod(0o755)
        (self.folder / "gres.conf").write_text("".join(f"NodeName=n1 Name=gpu Type=fake File={gpu}\n" for gpu in gpus))
        for name in FILES[: 3 if self.accounts else 2]:
            (ETC / name).symlink_to(self.folder / name)
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--socket={self.folder}/munge.sock", f"--key-file={key}",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        self._until(lambda: (self.folder / "munge.sock").exists(), "munged")
        if self.accounts:
            slurm_accounts.start_accounts(self.folder, dbd, self._daemon, self._until)
        self._daemon("slurmctld", "slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        self._until(lambda: self.state("n1") == self.state("n2") == "idle", "slurmctld")
        threading.Thread(target=self._keep_slurmctld, daemon=True).start()

    def _keep_slurmctld(self) -> None:
        """As systemd does: 22.05 may crash when a node comes back, and goes on from its state when it is started again."""
        while not self._stopping.wait(1):
            if self.daemons["slurmctld"].poll() is not None:
                self._daemon("slurmctld", "slurmctld", "-D")

    def start_node(self, node: str) -> None:
        self._daemon(node, "slurmd", "-D", "-N", node)

    def stop(self) -> None:
        """Nothing of it stays: jobs and what they left first, then the daemons."""
        self._end_jobs()
        self._stopping.set()
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(10)
        end_all(self.processes)  # a step that was being started
        for name in FILES:
            if ours(ETC / name):
                (ETC / name).unlink()

    def recover(self) -> None:
        """As at the start, whatever a test left: no job, both nodes idle."""
        for node in NODES:
            if node not in self.daemons or self.daemons[node].poll() is not None:
                self.start_node(node)
        self._end_jobs()
        for node in NODES:
            if not wait_for(lambda name=node: self.state(name) == "idle", 10):
                ask("scontrol", "update", f"nodename={node}", "state=resume")
        self._until(lambda: {self.state(node) for node in NODES} == {"idle"}, "slurmctld")
        self._forgotten = max([self._forgotten, *(int(job["id"]) for job in self.jobs("--states=all"))])

    def _end_jobs(self) -> None:
        """By Slurm first, which has to know; what it does not reach then."""
        with suppress(OSError, subprocess.SubprocessError):
            for options in (["--signal=KILL", "--full"], []):
                subprocess.run(["scancel", "--user", "root", *options], capture_output=True, timeout=30)
            wait_for(lambda: not self.jobs(), 30)
        end_all(self.processes)

    def _daemon(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        out = open(self.folder / f"{name}.out", "ab")  # noqa: SIM115
        self.daemons[name] = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)
        out.close()

    def _until(self, there: Callable[[], bool], what: str) -> None:
        if not wait_for(there, 120):
            said = "\n".join(f"{p.name}: {p.read_text(errors='replace')[-600:]}" for p in sorted(self.folder.glob("*.log")))
            raise RuntimeError(f"{what} did not come up\n{ask('sinfo', '-N', '-l')}{ask('squeue')}\n{said}")

    # ---- looking -----------------------------------------------------------------------------------------------
    def state(self, node: str) -> str:
        """idle, mixed, allocated, down, … as sinfo says."""
        return ask("sinfo", "-h", "-N", "-n", node, "-p", "main", "-o", "%T").strip().rstrip("*")

    def jobs(self, *options: str) -> list[dict[str, str]]:
        """Jobs that wait, run or just end, with --states=all also those that ended; `squeue` options."""
        rows = ask("squeue", "-h", "-o", "|".join(COLUMNS.values()), *options).splitlines()
        jobs = [dict(zip(COLUMNS, row.split("|"))) for row in rows]
        return [job for job in jobs if int(job["id"]) > self._forgotten]

    def job_of(self, run: str) -> dict[str, str]:
        """The training of a run, if it is not over; empty when there is none."""
        return next(
            (job for job in self.jobs() if job["comment"] == f"rule_train_model_wildcards_aimedres_{run}" and job["state"] != "COMPLETING"),
            {},
        )

    def jobs_of(self, rule: str, state: str = "") -> list[dict[str, str]]:
        """The jobs of a rule, those too that are over; or those in a state."""
        jobs = self.jobs("--states=all") if not state else self.jobs()
        return [job for job in jobs if job["comment"].startswith(f"rule_{rule}_") and state in ("", job["state"])]

    def restarts(self, job: str) -> int:
        """How often Slurm has started a job again."""
        told = re.search(r"\bRestarts=(\d+)", ask("scontrol", "show", "job", job))
        return int(told[1]) if told else 0

    def let_end_soon(self, job: str) -> None:
        """Less than two minutes are left of its time: it is warned when Slurm looks next, twice a minute."""
        ran = ask("squeue", "-h", "-j", job, "-o", "%M").strip()  # [[days-]hours:]minutes:seconds
        minutes = sum(int(part) * 60**i for i, part in enumerate(reversed(ran.split(":")[:-1])))
        ask("scontrol", "update", f"jobid={job}", f"TimeLimit={minutes + 2}")

    def processes(self, node: str = "") -> list[int]:
        """Pids of what a node, or both, run for jobs: step daemons (which write over their environment, and keep the node's log open),
        all below them, and what left its step."""
        nodes = (node,) if node else NODES
        daemons = {self.daemons[name].pid for name in nodes if name in self.daemons}
        jobs = [[f"SLURM_CLUSTER_NAME={self.name}", f"SLURMD_NODENAME={name}"] for name in nodes]
        return [pid for pid in family(jobs, [self.folder / f"slurmd-{name}.log" for name in nodes]) if pid not in daemons]

    # ---- a node that loses its power ---------------------------------------------------------------------------
    def kill_node(self, node: str) -> None:
        """Everything of it at once: frozen first, so that nothing can report the end of another."""
        daemon = self.daemons[node]
        end_all(lambda: [*([daemon.pid] if daemon.poll() is None else []), *self.processes(node)])
        del self.daemons[node]


def ours(path: Path) -> bool:
    """Whether a file of /etc/slurm is a link to a test cluster's."""
    return path.is_symlink() and "trainyard-slurm" in os.readlink(path)


@contextmanager
def running_cluster(folder: Path, cpus: int = 2, accounts: bool = False) -> Iterator[Cluster]:
    """A cluster in an empty folder whose path has "trainyard-slurm" in it. Skips where this machine has a Slurm of its own."""
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # /etc/slurm is one
        for path in (ETC / name for name in FILES):
            if ours(path):
                path.unlink()  # of a test that was killed
            elif path.exists():
                pytest.skip(f"{path} is there: this machine has a Slurm of its own, which is left alone")
        ETC.mkdir(exist_ok=True)
        cluster = Cluster(folder, cpus, accounts)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
