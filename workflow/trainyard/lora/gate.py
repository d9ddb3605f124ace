"""Which merge is accepted: the first of the fallback chain that passes every limit on validation rows."""

from typing import Any

from trainyard.config.merging import Acceptance

# Limit, the figure it is about, and whether the figure must stay below it or reach it.
GATES = (
    ("max_loss", "answer_loss", "max"),
    ("max_megabytes", "megabytes", "max"),
    ("min_valid_json", "valid_json", "min"),
    ("min_schema", "schema", "min"),
    ("min_geometry", "geometry", "min"),
    ("max_seconds", "seconds_an_answer", "max"),
    ("max_memory_gb", "memory_gb", "max"),
)


def gates_of(figures: dict[str, float], limits: Acceptance) -> list[dict[str, Any]]:
    """A row a limit that is asked: name, figure, limit, passed. A share that no answer could have (the reference answers
    are not JSON, or no plans) is not asked; any other figure that is missing fails."""
    rows = []
    for key, name, side in GATES:
        limit, figure = getattr(limits, key), figures.get(name)
        if limit is None or (figure is None and side == "min"):
            continue
        passed = figure is not None and (figure < limit if side == "max" else figure >= limit)
        rows.append({"name": name, "figure": figure, "limit": f"{'below' if side == 'max' else 'at least'} {limit:g}", "passed": passed})
    return rows


def why_refused(gates: list[dict[str, Any]]) -> str:
    """The failed limits in words; empty when all passed."""
    failed = [g for g in gates if not g["passed"]]
    return "; ".join(f"{g['name'].replace('_', ' ')} {g['figure']}, but the limit is {g['limit']}" for g in failed)
