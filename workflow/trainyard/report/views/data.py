"""A dataset and a preflight as the report shows them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Dataset:
    """What was used, what was refused and why, and whether groups are known."""

    suite: str
    name: str
    format: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    balance: dict[str, dict[str, int]] = field(default_factory=dict)
    folds: dict[str, int] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    groups_known: bool | None = None
    refused: tuple[tuple[str, str], ...] = ()
    lost: int = 0  # refused, without the duplicates that the same list names
    duplicates: int | None = None
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def reasons(self) -> list[tuple[str, int, list[str]]]:
        """Reasons with how many files each, most frequent first, and the files' names."""
        found: dict[str, list[str]] = {}
        for path, reason in self.refused:
            found.setdefault(reason, []).append(path)
        return sorted(((r, len(p), p) for r, p in found.items()), key=lambda row: (-row[1], row[0]))


@dataclass(frozen=True)
class Check:
    name: str
    state: str
    figure: str = ""
    limit: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Preflight:
    suite: str
    model: str
    verdict: str
    checks: tuple[Check, ...] = ()
    prediction: tuple[tuple[str, str], ...] = ()
