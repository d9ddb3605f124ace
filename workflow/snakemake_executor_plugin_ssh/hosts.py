"""The hosts of a run: names from an OpenSSH configuration, and what each may be given."""

import re
from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from snakemake_interface_common.exceptions import WorkflowError

LOCALHOST = "localhost"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@%+-]*\Z")


@dataclass(frozen=True)
class Host:
    """One host. None: what the host says of itself (cores, mem_mb, gpu), or the setting for all hosts (python, workdir)."""

    name: str
    cores: int | None = None
    mem_mb: int | None = None
    gpu: int | None = None
    python: str | None = None
    workdir: str | None = None

    def __post_init__(self):
        # ssh would read "-o…" as an option, and its ProxyCommand may give %h to a shell.
        if not _NAME.match(self.name):
            raise WorkflowError(
                f"ssh host {self.name!r}: use a name of your OpenSSH configuration made of letters, digits and . _ : @ % + -, "
                "not beginning with a dash"
            )
        for key in ("cores", "mem_mb", "gpu"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < (0 if key == "gpu" else 1)):
                raise WorkflowError(f"ssh host {self.name}: {key} must be a whole number, found {value!r}")

    @property
    def local(self) -> bool:
        """The controller itself, without ssh."""
        return self.name == LOCALHOST

    def size(self, found: dict[str, int]) -> dict[str, int]:
        """Cores, memory and GPUs that may be given away: what the host says of itself (`found`) where nothing was said."""
        given = {"cores": self.cores, "mem_mb": self.mem_mb, "gpu": self.gpu}
        return {key: found[key] if value is None else value for key, value in given.items()}


_KEYS = tuple(field.name for field in fields(Host) if field.name != "name")


def parse_host(text: str) -> Host:
    """`name` or `name:cores=4,mem_mb=8000,gpu=1,python=/path,workdir=/path`."""
    name, _, rest = text.partition(":") if "=" in text else (text, "", "")
    values: dict = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or key not in _KEYS:
            raise WorkflowError(f"ssh host {text!r}: '{item}' is not one of {', '.join(key + '=…' for key in _KEYS)}")
        values[key] = int(value) if value.isdigit() and key not in ("python", "workdir") else value
    return Host(name, **values)


def read_hosts(items: list[str]) -> list[Host]:
    """Hosts of the setting: each item a host, or a YAML file that has them as a mapping, `hosts: {name: {cores: 4}}`.
    WorkflowError: none, one twice, or not understood."""
    hosts: list[Host] = []
    for item in items:
        if item.endswith((".yaml", ".yml")):
            hosts += _from_file(Path(item))
        else:
            hosts.append(parse_host(item))
    names = [host.name for host in hosts]
    if not hosts:
        raise WorkflowError("no hosts: name them with --ssh-hosts, each as it is called in your OpenSSH configuration, or localhost")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise WorkflowError(f"ssh host {twice[0]} is named twice")
    return hosts


def _from_file(path: Path) -> list[Host]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as problem:
        raise WorkflowError(f"{path}: cannot be read as a list of hosts: {problem}") from None
    found = content.get("hosts") if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise WorkflowError(f"{path}: expected `hosts:` with a line `name: {{cores: 4, mem_mb: 8000, gpu: 0}}` for each host")
    if not found and content.get("help"):
        raise WorkflowError(str(content["help"]))  # whoever makes such files says what to do
    hosts = []
    for name, values in found.items():
        if unknown := sorted(set(values or {}) - set(_KEYS)):
            raise WorkflowError(f"{path}: host {name} has {unknown[0]!r}, which is not one of {', '.join(_KEYS)}")
        hosts.append(Host(str(name), **(values or {})))
    return hosts
