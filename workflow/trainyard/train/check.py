"""What a check found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Check:
    """One check: its name, what was found, the limit, ok, warn or fail, and what to do.

    machine: it depends on the machine, so a training asks again where it runs, and that answer counts.
    """

    check: str
    value: str
    limit: str
    verdict: str
    advice: str
    machine: bool = False

    def of_machine(self) -> "Check":
        return replace(self, machine=True)


def ok(check: str, value: str, limit: str = "", advice: str = "") -> Check:
    return Check(check, value, limit, "ok", advice)


def warn(check: str, value: str, limit: str, advice: str) -> Check:
    return Check(check, value, limit, "warn", advice)


def fail(check: str, value: str, limit: str, advice: str) -> Check:
    return Check(check, value, limit, "fail", advice)


def verdict_of(checks: Sequence[Check]) -> str:
    """The worst verdict among checks."""
    found = {c.verdict for c in checks}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"
