"""Where checkpoints are kept besides the run's own folder."""

from pathlib import Path


class Elsewhere:
    """Nowhere. trainyard.machines.mirror, which is loaded by name, knows a storage."""

    def fetch(self, folder: Path) -> None:
        """Bring a newer checkpoint into `folder`, where there is one."""

    def take_up(self, folder: Path) -> None:
        """The same, and from now on keep what is saved in `folder`."""


NOWHERE = Elsewhere()
