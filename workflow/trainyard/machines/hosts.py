"""The machines that jobs go to over ssh, as the ssh executor reads them: from config/machines.yaml, and from gh's list of Codespaces.

A machine's name is its name in the OpenSSH configuration; `localhost` is this machine.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from trainyard.config.base import ConfigError
from trainyard.config.machines import Machine, load_machines
from trainyard.data.files import write_text

CODESPACES = Path("config/ssh_codespaces")  # gh codespace ssh --config writes it
HOSTS, CODESPACE_HOSTS = "hosts.yaml", "codespaces.yaml"  # what the profiles ec2 and codespace name as ssh-hosts
NO_HOSTS = (
    "no machine to run on: in config/machines.yaml, give each machine that ssh reaches `ssh: true`, under the name that it has in "
    "config/ssh_hosts or ~/.ssh/config, for example `my-gpu-box: {ssh: true}` (docs/machines.md)"
)
NO_CODESPACES = (
    f"no Codespace to run on: `gh codespace ssh --config > {CODESPACES}` writes down those that there are (docs/machines.md); "
    "inside one, run `make setup` there, and the profile is another"
)


def write_hosts(file: Path, home: Path, folder: Path) -> set[str]:
    """Write hosts.yaml, of the machines file, and codespaces.yaml into `folder`; the names in them. Raises ConfigError for a machines
    file that is none."""
    machines = load_machines(file).single()
    boxes = {name: _given(machine) for name, machine in machines.items() if machine.ssh}
    spaces: dict[str, Any] = {name: {"gpu": 0} for name in codespaces(home / CODESPACES)}
    for name, hosts, help in ((HOSTS, boxes, NO_HOSTS), (CODESPACE_HOSTS, spaces, NO_CODESPACES)):
        write_text(folder / name, yaml.safe_dump({"hosts": hosts, "help": help}, sort_keys=False, allow_unicode=True))
    return boxes.keys() | spaces.keys()


def _given(machine: Machine) -> dict[str, int]:
    """What a host may be given; left out is what the host has, as it says itself."""
    found: dict[str, int] = {}
    if machine.cores is not None:
        found["cores"] = machine.cores
    if machine.memory_gb is not None:
        found["mem_mb"] = int(machine.memory_gb * 1000)
    return found | ({"gpu": machine.gpus} if "gpus" in machine.model_fields_set else {})


def codespaces(path: Path) -> list[str]:
    """The hosts in an OpenSSH configuration as `gh codespace ssh --config` writes it; none where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    names = [name for line in re.findall(r"^\s*Host\s+(.+)$", text, re.M | re.I) for name in line.split()]
    return [name for name in dict.fromkeys(names) if not set(name) & set("*?!")]
