"""Whether a cluster keeps accounts of its jobs, which is what sacct reads."""

import re
import shutil
import subprocess


def keeps_accounts() -> bool:
    """Whether sacct can answer: the command is there on clusters that keep no accounts too, and only fails."""
    if shutil.which("sacct") is None:
        return False
    try:
        done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return accounts_in(done.stdout)


def accounts_in(config: str) -> bool:
    """The same from what `scontrol show config` says."""
    kind = re.search(r"^AccountingStorageType\s*=\s*(\S+)", config, re.MULTILINE)
    return kind is None or kind[1].removeprefix("accounting_storage/") not in ("none", "(null)", "filetxt")
