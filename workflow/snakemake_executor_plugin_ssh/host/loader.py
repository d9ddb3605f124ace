"""First code that runs on a host: checks the Python, makes modules of the sources that came with it, and starts the agent.

Understood by any Python 3, so that one of another version can say so."""

import json
import sys
import types


def load(modules, expected, hello):
    """`modules`: {name: source} in the order of their imports; `expected`: (major, minor); `hello`: JSON, see agent.Agent."""
    # A login shell may have printed something already.
    sys.stdout.write("\n@snakemake-ssh@\n")
    sys.stdout.flush()
    if sys.version_info[:2] != tuple(expected):
        sys.stdout.write(json.dumps({"python": sys.version.split()[0], "bytes": 0}) + "\n")
        sys.stdout.flush()
        sys.exit(98)
    package = "snakemake_ssh_host"
    whole = types.ModuleType(package)
    whole.__path__ = []
    sys.modules[package] = whole
    for name, source in modules.items():
        module = types.ModuleType(package + "." + name)
        module.__package__ = package
        sys.modules[module.__name__] = module
        setattr(whole, name, module)
        exec(compile(source, name + ".py", "exec"), module.__dict__)
    sys.modules[package + ".agent"].serve(json.loads(hello))
