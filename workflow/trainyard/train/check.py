"""What a check found."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One check: its name, what was found, the limit, ok, warn or fail, and what to do."""

    check: str
    value: str
    limit: str
    verdict: str
    advice: str


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
