"""Makes the environment of jobs on a bare host, and says what a host is and whether it fits."""

import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError

from .hosts import Host
from .openssh import OpenSSH, Refused, Unreachable, complaint, local_command, preamble
from .packages import read_pins
from .session import Session

# Path of the Python, wanted version, then the requirements, all on standard input: no shell ever reads them.
_SCRIPT = """
set -eu
IFS= read -r python; IFS= read -r version
case $python in "~/"*) python=$HOME/${python#"~/"};; esac
case $python in */bin/python*) ;; *) echo "the path of the Python must end with /bin/python: $python" >&2; exit 2;; esac
venv=${python%/bin/python*}
mkdir -p "$venv"
cat > "$venv/requirements.txt"
if command -v uv >/dev/null; then
  [ -x "$python" ] || uv venv --quiet --allow-existing --python "$version" "$venv"
  exec uv pip install --quiet --python "$python" -r "$venv/requirements.txt"
fi
if [ ! -x "$python" ]; then
  for base in "python$version" python3; do
    if command -v "$base" >/dev/null && [ "$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$version" ]; then
      "$base" -m venv "$venv" || { echo "$base cannot make environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
      break
    fi
  done
fi
[ -x "$python" ] || { echo "there is neither uv nor a Python $version; install uv (https://docs.astral.sh/uv), then again" >&2; exit 2; }
"$python" -c 'import pip' 2>/dev/null || "$python" -m ensurepip >/dev/null  # one that uv made, on a host that has no uv
exec "$python" -m pip install --quiet --disable-pip-version-check -r "$venv/requirements.txt"
"""


def own_packages() -> dict[str, str]:
    """Snakemake, its interfaces and storage plugins, as they are here."""
    names = {found.name.lower().replace("_", "-") for found in importlib.metadata.distributions() if found.name}
    wanted = {"snakemake"} | {name for name in names if name.startswith(("snakemake-interface-", "snakemake-storage-plugin-"))}
    return {name: importlib.metadata.version(name) for name in sorted(wanted)}


def prepare(host: Host, config: Path | None, requirements: Path | None) -> str:
    """Make or complete the environment, and return what the host is. WorkflowError: it could not be done."""
    if requirements is not None:
        text = requirements.read_text()
        packages = read_pins(requirements)
    else:
        packages = dict(own_packages())
        text = "".join(f"{name}=={version}\n" for name, version in packages.items())
    version = "{}.{}".format(*sys.version_info[:2])
    with tempfile.TemporaryDirectory(prefix="smk-ssh-") as sockets:
        ssh = OpenSSH(config, Path(sockets))
        command = ["/bin/sh", "-c", _SCRIPT] if host.local else ssh.script(host, _SCRIPT)
        done = subprocess.run(command, input=f"{host.python}\n{version}\n{text}".encode(), capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            problem = complaint(host, done.returncode if done.returncode == 255 else None, said, ssh.by_hand(host), "")
            raise WorkflowError(f"host {host.name} could not be prepared: {problem if done.returncode == 255 else said.strip()}")
        return look(host, ssh, packages)


def look(host: Host, ssh: OpenSSH, packages: dict[str, str | None]) -> str:
    """What a host is. WorkflowError: it cannot be reached or does not fit."""
    hello = {"project": "prepare", "workdir": host.workdir, "packages": packages, "version": "", "local": host.local}
    session = Session(local_command() if host.local else ssh.agent(host), preamble(host.python or "", json.dumps(hello)))
    try:
        greeting, _ = session.exchange(None, timeout=45)
    except Unreachable:
        problem = complaint(host, *session.said(), ssh.by_hand(host), f"{shlex.quote(sys.executable)} -m {__package__} prepare {host.name}")
        raise WorkflowError(f"host {host.name}: {problem}") from None
    except Refused as problem:
        raise WorkflowError(f"host {host.name}: {problem}") from None
    finally:
        session.close()
    if "clock" not in greeting:
        raise WorkflowError(f"host {host.name}: {greeting.get('failed') or 'its Python is ' + greeting.get('python', 'not ours')}")
    if greeting["problems"]:
        raise WorkflowError(f"host {host.name} differs from this machine: {', '.join(greeting['problems'])}")
    return (
        f"host {host.name} fits: Python {greeting['python']} (here {platform.python_version()}), {len(packages)} packages equal, "
        f"{greeting['cores']} cores, {greeting['mem_mb']} MB, {greeting['gpu']} GPUs"
    )
