"""A real Slurm of two virtual nodes on this machine: munge, slurmctld and a slurmd a node, children of this process.

The jobs of a node are processes of this machine. A slurm.conf must lie at /etc/slurm, for a job's environment keeps no path to another.
"""

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PACKAGES = ("slurm-wlm", "slurmctld", "slurmd", "slurm-client", "munge")
ETC = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf")
LOCK = Path("/run/lock/trainyard-test-slurm")
COLUMNS = {"id": "%i", "name": "%j", "state": "%T", "node": "%N", "partition": "%P", "memory": "%m", "limit": "%l", "comment": "%k"}

# SlurmdTimeout is short, so that a dead node is soon known to be; MinJobAge long enough for squeue to tell how a job ended.
CONF = """
ClusterName=trainyard
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
SlurmdTimeout=8
MinJobAge=300
KillWait=5
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs={cpus} RealMemory=4000 Gres=gpu:fake:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 LLN=YES State=UP
PartitionName=gpu Nodes=n1 MaxTime=60 State=UP
"""


class Cluster:
    """Nodes n1 (two fake GPUs) and n2, of `cpus` cores each; partitions main (both) and gpu (n1)."""

    def __init__(self, folder: Path, cpus: int = 2):
        self.folder, self.cpus = folder, cpus
        self.daemons: dict[str, subprocess.Popen] = {}

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
        port, port1, port2 = free_ports(3)
        conf = CONF.format(folder=self.folder, host=host, port=port, port1=port1, port2=port2, cpus=self.cpus)
        (self.folder / "slurm.conf").write_text(conf)
        (self.folder / "gres.conf").write_text("".join(f"NodeName=n1 Name=gpu Type=fake File={gpu}\n" for gpu in gpus))
        for name in FILES:
            (ETC / name).symlink_to(self.folder / name)
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--socket={self.folder}/munge.sock", f"--key-file={key}",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        self._until(lambda: (self.folder / "munge.sock").exists(), "munged")
        self._daemon("slurmctld", "slurmctld", "-D")
        for node in ("n1", "n2"):
            self.start_node(node)
        self._until(lambda: self.state("n1") == self.state("n2") == "idle", "slurmctld")

    def start_node(self, node: str) -> None:
        self._daemon(node, "slurmd", "-D", "-N", node)

    def stop(self) -> None:
        """Nothing of it stays: jobs first, then what they left, then the daemons."""
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", "--user", "root"], capture_output=True, timeout=20)
            wait_for(lambda: not self.jobs(), 10)
        for node in ("n1", "n2"):
            for pid in self.processes(node):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(10)
        for name in FILES:
            if ours(ETC / name):
                (ETC / name).unlink()

    def _daemon(self, name: str, *command: str) -> None:
        out = open(self.folder / f"{name}.out", "ab")  # noqa: SIM115
        environment = {**os.environ, "TRAINYARD_TEST_DAEMON": f"{self.folder}:{name}"}
        self.daemons[name] = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)
        out.close()

    def _until(self, there: Callable[[], bool], what: str) -> None:
        if not wait_for(there, 30):
            said = "\n".join(f"{p.name}: {p.read_text(errors='replace')[-600:]}" for p in sorted(self.folder.glob("*.log")))
            raise RuntimeError(f"{what} did not come up\n{said}")

    # ---- looking -----------------------------------------------------------------------------------------------
    def state(self, node: str) -> str:
        """idle, mixed, allocated, down, … as sinfo says."""
        return ask("sinfo", "-h", "-N", "-n", node, "-p", "main", "-o", "%T").strip().rstrip("*")

    def jobs(self, *options: str) -> list[dict[str, str]]:
        """Jobs that wait, run or just end, with --states=all also those that ended; `squeue` options."""
        rows = ask("squeue", "-h", "-o", "|".join(COLUMNS.values()), *options).splitlines()
        return [dict(zip(COLUMNS, row.split("|"))) for row in rows]

    def job_of(self, run: str) -> dict[str, str]:
        """The job of a run that is not over; empty when there is none."""
        return next((job for job in self.jobs() if job["comment"].endswith(f"_{run}") and job["state"] != "COMPLETING"), {})

    def processes(self, node: str) -> list[int]:
        """Pids of what a node runs for jobs: its step daemons and all below them."""
        mark = f"TRAINYARD_TEST_DAEMON={self.folder}:{node}".encode()
        daemon = self.daemons[node].pid if node in self.daemons else 0
        parents, found = {}, set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError, IndexError, ValueError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if mark in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != daemon:
                    found.add(int(entry.name))
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    # ---- a node that loses its power ---------------------------------------------------------------------------
    def kill_node(self, node: str) -> None:
        """Everything of it at once: frozen first, so that nothing can report the end of another."""
        victims = [self.daemons[node].pid, *self.processes(node)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in victims:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.daemons.pop(node).wait(10)


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def wait_for(there: Callable[[], object], seconds: float, every: float = 0.2) -> bool:
    """Whether it came true within so many seconds."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def free_ports(count: int) -> Sequence[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def ours(path: Path) -> bool:
    """Whether a file of /etc/slurm is a link to a test cluster's."""
    return path.is_symlink() and "trainyard-slurm" in os.readlink(path)


@contextmanager
def running_cluster(folder: Path, cpus: int = 2) -> Iterator[Cluster]:
    """A cluster in an empty folder whose path has "trainyard-slurm" in it. Skips where this machine has a Slurm of its own."""
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # /etc/slurm is one
        for path in (ETC / name for name in FILES):
            if ours(path):
                path.unlink()  # of a test that was killed
            elif path.exists():
                pytest.skip(f"{path} is there: this machine has a Slurm of its own, which is left alone")
        ETC.mkdir(exist_ok=True)
        cluster = Cluster(folder, cpus)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
