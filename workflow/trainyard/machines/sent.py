"""Which found scripts go to other machines with the project's sources: those in its folder that git does not ignore."""

import subprocess
from pathlib import Path

from trainyard.config import Config, list_scripts


def sent_scripts(config: Config, folder: Path) -> frozenset[str]:
    """Their paths. `folder`: the working folder, which is what is sent. Not those of a suite whose `discover.stay` is set."""
    stay = {name for name, suite in config.suites.items() if suite.discover and suite.discover.stay}
    inside = [script.path for script in list_scripts(config) if script.suite not in stay and _inside(Path(script.path), folder)]
    return frozenset(inside) - _ignored(inside, folder)


def _inside(path: Path, folder: Path) -> bool:
    """Below the folder, and not by a link, which would be sent as a link."""
    real, root = path.resolve(), folder.resolve()
    return real.is_relative_to(root) and path.absolute() == folder.absolute() / real.relative_to(root)


def _ignored(paths: list[str], folder: Path) -> frozenset[str]:
    """Those that git ignores; none where git is not, for then all files are sent."""
    if not paths:
        return frozenset()
    command = ["git", "-C", str(folder), "check-ignore", "-z", "--stdin"]
    asked = "".join(f"{Path(path).absolute()}\0" for path in paths)
    try:
        done = subprocess.run(command, input=asked.encode(), capture_output=True, timeout=60)
    except FileNotFoundError:
        return frozenset()
    found = {name.decode() for name in done.stdout.split(b"\0") if name}
    return frozenset(path for path in paths if str(Path(path).absolute()) in found)
