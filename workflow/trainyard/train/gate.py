"""What a training asks before it begins: the preflight's verdict, and the machine's own checks once more, where it runs.

Loaded by name: an edit here changes nothing that is learned, so it must not retrain anything.
"""

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from trainyard.data.files import read_json
from trainyard.train.check import Check
from trainyard.train.decoders import check_decoders
from trainyard.train.machine import Needs, check_machine


def pass_gate(report: str, packs: Mapping[str, str], checkpoints: Path, place: torch.device, say: Callable[[str], Any] = print) -> None:
    """Raises ValueError with what failed and what to do. What a preflight found wrong with its machine is asked anew of this one.

    `checkpoints` is the folder of this run's own.
    """
    preflight = read_json(report)
    try:
        checks = [Check(**check) for check in preflight["checks"]]
        needs = Needs(**preflight["needs"]) if preflight.get("needs") else None
        elsewhere = preflight.get("run_info", {}).get("host") != socket.gethostname()
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"{report}: is no report of a preflight; delete it to check again") from None
    failed = [c for c in checks if c.verdict == "fail"]
    failed = [c for c in failed if not (c.machine and (needs or elsewhere))]
    if failed:
        raise ValueError(f"preflight failed, nothing was trained: {_words(failed)}. See {report}; delete it to check again")
    if not needs:
        return
    here = check_machine(needs, packs, checkpoints, place) + check_decoders(preflight.get("decoders", []))
    failed = [c for c in here if c.verdict == "fail"]
    if failed:
        raise ValueError(f"this machine cannot train it, nothing was trained: {_words(failed)}")
    for check in here:
        if check.verdict == "warn":
            say(f"note: {check.check}: {check.value}; {check.advice}")


def _words(checks: list[Check]) -> str:
    return "; ".join(f"{c.check}: {c.value}{f' (limit: {c.limit})' if c.limit else ''}: {c.advice}" for c in checks)
