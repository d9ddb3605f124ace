"""What a call of Snakemake finds on its own machine, told to the calls that its jobs are on other machines.

There the plan, the machines file and folders outside of the project are not: neither the worker's runs nor the found scripts can be
looked up. It goes as one word in the jobs' environment.
"""

import base64
import json
import os
import zlib
from dataclasses import asdict, dataclass

from trainyard.config.base import ConfigError
from trainyard.config.load import Config
from trainyard.config.runs import FoundScript, list_scripts
from trainyard.config.worker import Slice

VARIABLE = "TRAINYARD_TOLD"
LONGEST = 120_000  # characters; Linux takes 131,072 in a variable


@dataclass(frozen=True)
class Told:
    """The found scripts of every suite, before any choice among them; the paths of those that were sent; the worker's slice."""

    scripts: tuple[FoundScript, ...]
    sent: frozenset[str]
    mine: Slice | None


def encode(config: Config, sent: frozenset[str]) -> str:
    """What this call found, as one word. Raises ConfigError when it is too much for a variable."""
    mine = config.mine and {**asdict(config.mine), "paths": sorted(config.mine.paths)}
    # Their paths there: from the working folder on.
    scripts = [{**asdict(s), "path": os.path.relpath(s.path) if s.path in sent else s.path} for s in list_scripts(config, filtered=False)]
    content = {"scripts": scripts, "sent": sorted(map(os.path.relpath, sent)), "mine": mine}
    text = base64.b64encode(zlib.compress(json.dumps(content).encode(), 9)).decode()
    if len(text) > LONGEST:
        raise ConfigError(
            f"the names of the found scripts and of the worker's runs are {len(text)} characters, more than the {LONGEST} that jobs on "
            "other machines can be told: choose fewer at a time (only=…)"
        )
    return text


def decode(text: str) -> Told:
    """The other way round. Raises ConfigError when this is not what encode() gave."""
    try:
        content = json.loads(zlib.decompress(base64.b64decode(text)))
        mine = content["mine"]
        if mine is not None:
            mine = Slice(mine["worker"], mine["source"], frozenset(mine["paths"]), tuple(mine["patterns"]))
        return Told(tuple(FoundScript(**s) for s in content["scripts"]), frozenset(content["sent"]), mine)
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise ConfigError(f"{VARIABLE}, set by the call that started this job, cannot be read: {type(error).__name__}: {error}") from None
