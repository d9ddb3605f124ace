"""The OpenSSH client: its command lines, and what its complaints mean."""

import platform
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError

from .hosts import Host

# Neither holds anything of the user's: the Python's path is the first line of standard input, the code to run follows it.
_SHELL = (
    'IFS= read -r p; case $p in "~/"*) p=$HOME/${p#"~/"};; */*) ;; *) p=$(command -v "$p");; esac; '
    '[ -x "$p" ] || { echo no-python-here; exit 97; }; exec "$p" -c "$1"'
)
_BOOT = 'import os; r=lambda n:b"" if n<1 else (lambda d:d+r(n-len(d)))(os.read(0,n)); exec(r(int(r(16))))'
_MODULES = ("frames", "processes", "lease", "logs", "environment", "sources", "supervisor", "takeover", "agent")
NO_PYTHON, OTHER_PYTHON = 97, 98


class Unreachable(Exception):
    """No answer: nothing is known about what the host does."""


class Refused(Exception):
    """The host answered, or the client before it, and cannot be used; says the reason and what to do."""


def silence_seconds(given: float) -> float:
    """The setting, checked. WorkflowError: too short for ssh, which asks every second at most."""
    if not given >= 4:
        raise WorkflowError(f"--ssh-silence-seconds {given:g}: at least 4, or a busy host counts as gone")
    return given


def loopback_ports(values: Iterable[str]) -> tuple[int, ...]:
    """Ports of this machine's loopback that these values name as http://127.0.0.1:PORT."""
    found = (re.fullmatch(r"https?://(?:127\.0\.0\.1|localhost):(\d+)/?", value) for value in values)
    return tuple(sorted({int(match[1]) for match in found if match}))


def preamble(python: str, hello: str) -> bytes:
    """What a new connection is sent first: path of the Python, length of the code, the code with its greeting (JSON)."""
    folder = files(__package__) / "host"
    modules = {name: (folder / f"{name}.py").read_text() for name in _MODULES}
    expected = tuple(sys.version_info[:2])
    code = ((folder / "loader.py").read_text() + f"\nload({modules!r}, {expected!r}, {hello!r})\n").encode()
    if "\n" in python:
        raise Refused(f"path of the Python {python!r}: a line break cannot be")
    return python.encode() + b"\n" + str(len(code)).encode().ljust(16) + code


def local_command() -> list[str]:
    """Starts the agent on this machine, by the same way in."""
    return ["/bin/sh", "-c", _SHELL, "sh", _BOOT]


@dataclass(frozen=True)
class OpenSSH:
    """How to call ssh. `sockets`: folder for control sockets, with a short path (a socket's may have 100 characters); `silence`: seconds
    without a word after which a connection has ended."""

    config: Path | None
    sockets: Path
    silence: float = 20.0

    def _base(self, host: Host, *options: str) -> list[str]:
        config = ["-F", str(self.config)] if self.config else []
        return ["ssh", *config, *options, "-S", str(self.sockets / self.socket_name(host))]

    def socket_name(self, host: Host) -> str:
        return format(hash(host.name) & 0xFFFFFFFF, "08x")

    def forget(self, host: Host) -> None:
        """Remove the control socket of a connection that was killed: while it lies there, ssh makes no other."""
        (self.sockets / self.socket_name(host)).unlink(missing_ok=True)

    def agent(self, host: Host) -> list[str]:
        """The connection of a host: carries the agent and is the master of its forwards."""
        options = ["BatchMode=yes", "ControlMaster=yes", "ControlPersist=no", "ServerAliveCountMax=3"]
        options += [f"ServerAliveInterval={max(1, int(self.silence / 4))}", f"ConnectTimeout={max(3, min(15, int(self.silence)))}"]
        options += ["ForwardAgent=no", "ForwardX11=no", "RequestTTY=no", "PermitLocalCommand=no"]
        flags = [flag for option in options for flag in ("-o", option)]
        return [*self._base(host, *flags), "--", host.name, f"exec /bin/sh -c {shlex.quote(_SHELL)} sh {shlex.quote(_BOOT)}"]

    def script(self, host: Host, script: str) -> list[str]:
        """Runs a shell script of ours on a host, by a connection of its own."""
        config = ["-F", str(self.config)] if self.config else []
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-T"]
        return ["ssh", *config, *options, "--", host.name, f"exec /bin/sh -c {shlex.quote(script)}"]

    def forward(self, host: Host, port: int) -> list[str]:
        """Makes the host's 127.0.0.1:port lead to ours, over the connection that is there."""
        return [*self._base(host, "-O", "forward", "-R", f"127.0.0.1:{port}:127.0.0.1:{port}"), "--", host.name]

    def by_hand(self, host: Host) -> str:
        """The command that a person would try."""
        return shlex.join(["ssh", *(["-F", str(self.config)] if self.config else []), host.name])


def complaint(host: Host, code: int | None, output: str, by_hand: str, prepare: str) -> Exception:
    """What a connection that ended before it answered has said: Refused where trying again is useless, else Unreachable."""
    text = output.strip()
    last = text.splitlines()[-1] if text else f"ssh ended with {code}"
    if code == OTHER_PYTHON:
        return Refused(f"its Python is {last}, and this is {platform.python_version()}; make an environment that fits with: {prepare}")
    if code == NO_PYTHON:
        return Refused(f"it has no environment for jobs at {host.python}; make it with: {prepare}")
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in text or "Host key verification failed" in text or "host key is known" in text:
        return Refused(
            f"its host key is not the one that is known (or none is known yet). If you trust it, connect once by hand ({by_hand}) "
            "and compare the fingerprint; ssh says there which line of known_hosts to remove"
        )
    if "Permission denied" in text:
        return Refused(f"it does not let us in ({last}); make this work without a password: {by_hand}")
    if "ad configuration option" in text or "no argument after keyword" in text or "Can't open user config file" in text:
        return Refused(f"the OpenSSH configuration cannot be used: {last}")
    if "remote username contains invalid characters" in text or "hostname contains invalid characters" in text:
        return Refused(f"ssh does not take its name or user: {last}")
    if code not in (None, 255) and code > 0:
        return Refused(f"its agent could not start ({last})")
    return Unreachable(last)
