"""Hosts to run jobs on: each a network namespace with its own link to here, its own sshd, home and working folder. Root only."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SSHD = "/usr/sbin/sshd"


def run(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=30).stdout


def delayed(seconds: float) -> str:
    """A line of the OpenSSH configuration: every byte of a host takes so long, each way."""
    return f"  ProxyCommand {sys.executable} {Path(__file__).with_name('delay.py')} %h %p {seconds}\n"


def fill(folder: Path) -> Path:
    """Nothing more can be written on this disk; returns the file that takes the room."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


class Host:
    """One host: `name` is also its name in the OpenSSH configuration; `cut` and `restore` are its network cable."""

    def __init__(self, folder: Path, number: int, environment: dict[str, str] | None = None):
        self.name = f"host{number}"
        self.home = folder / self.name
        self.home.mkdir()
        self._space, self._cable = f"ty{os.getpid()}h{number}", f"ty{os.getpid() % 10**6}v{number}"
        net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 256}"
        self._here, self.address = f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}"
        self._config = folder / f"{self.name}.sshd"
        self._folder, self._environment = folder, environment or {}
        self.sshd: subprocess.Popen | None = None

    def start(self) -> None:
        run("ip", "netns", "add", self._space)
        run("ip", "-n", self._space, "link", "set", "lo", "up")
        run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self._space)
        run("ip", "addr", "add", f"{self._here}/30", "dev", self._cable)
        run("ip", "link", "set", self._cable, "up")
        run("ip", "-n", self._space, "addr", "add", f"{self.address}/30", "dev", "eth0")
        run("ip", "-n", self._space, "link", "set", "eth0", "up")
        variables = {"HOME": str(self.home), "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **self._environment}
        self._config.write_text(
            f"ListenAddress {self.address}\nHostKey {self._folder}/hostkey\nPidFile none\nAuthorizedKeysFile {self._folder}/key.pub\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\n"
            "SetEnv " + " ".join(f'"{name}={value}"' for name, value in variables.items()) + "\n"
        )
        self.start_sshd()

    def start_sshd(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        command = ["ip", "netns", "exec", self._space, SSHD, "-D", "-f", str(self._config), "-E", f"{self._config}.log"]
        self.sshd = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while self.address not in self.listening():
            if time.monotonic() > until or self.sshd.poll() is not None:
                raise RuntimeError(f"sshd did not start: {Path(f'{self._config}.log').read_text()}")
            time.sleep(0.05)

    def listening(self) -> str:
        """Where anything listens."""
        return run("ip", "netns", "exec", self._space, "ss", "-Hltn")

    def cut(self) -> None:
        run("ip", "link", "set", self._cable, "down")

    def restore(self) -> None:
        run("ip", "link", "set", self._cable, "up")

    def throttle(self, megabits: float) -> None:
        """No more than so many Mbit/s come from here."""
        rate = ["rate", f"{megabits}mbit", "burst", "256k", "latency", "400ms"]
        run("ip", "netns", "exec", self._space, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", *rate)

    def sent(self) -> int:
        """Bytes that have come from here."""
        return int(Path(f"/sys/class/net/{self._cable}/statistics/rx_bytes").read_text())

    def pids(self) -> list[int]:
        return [int(pid) for pid in run("ip", "netns", "pids", self._space, check=False).split()]

    def named(self, *words: str) -> list[int]:
        """Processes of this host whose command line has all these words."""
        found = []
        for pid in self.pids():
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(pid)
        return found

    def die(self) -> None:
        """As if the plug were pulled: nothing of it runs or answers any more."""
        self.cut()
        self.kill(self.pids())

    def kill(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self.kill(self.pids())
        if self.sshd is not None:
            self.sshd.kill()
            self.sshd.wait(10)
        run("ip", "link", "del", self._cable, check=False)
        run("ip", "netns", "del", self._space, check=False)


class Network:
    """Hosts and the OpenSSH configuration that names them."""

    def __init__(self, folder: Path):
        self.folder, self.hosts = folder, []
        for name in ("key", "hostkey"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        self.config = folder / "ssh_config"
        self.known = folder / "known_hosts"
        self.known.touch()
        self.config.write_text("")

    def add(self, lines: str = "", environment: dict[str, str] | None = None) -> Host:
        """One more host; `lines` of its own for the OpenSSH configuration."""
        host = Host(self.folder, len(self.hosts), environment)
        self.hosts.append(host)
        host.start()
        key = " ".join((self.folder / "hostkey.pub").read_text().split()[:2])
        with open(self.known, "a") as file:
            file.write(f"{host.address} {key}\n")
        with open(self.config, "a") as file:
            file.write(
                f"Host {host.name}\n  HostName {host.address}\n  User root\n  IdentityFile {self.folder}/key\n  IdentitiesOnly yes\n"
                f"  UserKnownHostsFile {self.known}\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n{lines}\n"
            )
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
