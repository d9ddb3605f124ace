"""Reading files that may be absent, half written or from another version: what cannot be read becomes a problem, not an end."""

import csv
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

csv.field_size_limit(2**31 - 1)


class Loose:
    """Reads below one folder and keeps a line for each file that is there but unreadable."""

    def __init__(self, root: Path):
        self.root = root
        self.problems: list[str] = []

    def name(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def json(self, path: Path) -> Any:
        """The parsed file, or None when it is absent or broken."""
        try:
            return json.loads(path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.problems.append(f"{self.name(path)}: {error}")
            return None

    def object(self, path: Path) -> dict[str, Any]:
        value = self.json(path)
        if value is not None and not isinstance(value, dict):
            self.problems.append(f"{self.name(path)}: not a JSON object")
        return value if isinstance(value, dict) else {}

    def rows(self, path: Path) -> list[dict[str, str]]:
        """Rows of a CSV file with a header; missing cells are empty strings."""
        try:
            with open(path, encoding="utf-8", errors="replace", newline="") as file:
                return [{k: v or "" for k, v in row.items() if k is not None} for row in csv.DictReader(file)]
        except FileNotFoundError:
            return []
        except (OSError, csv.Error) as error:
            self.problems.append(f"{self.name(path)}: {error}")
            return []


def inner(value: Any, key: str) -> dict[str, Any]:
    """The object under a key; empty when there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def listed(value: Any, key: str) -> list[Any]:
    """The list under a key; empty when there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def objects(value: Any, key: str) -> list[dict[str, Any]]:
    """The objects of the list under a key."""
    return [v for v in listed(value, key) if isinstance(v, dict)]


def number(value: Any) -> float | None:
    """A finite number, or None for anything else (empty cells, NaN, words, booleans)."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def moment(value: Any) -> float | None:
    """Seconds since 1970 from an ISO time (without a zone: UTC) or from a number."""
    if isinstance(value, str) and value:
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return number(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return number(value)


def words(value: Any) -> str:
    """Anything as one short text: lists joined, dictionaries as `key: value`, numbers rounded."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {words(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(words(v) for v in value)
    return str(value)
