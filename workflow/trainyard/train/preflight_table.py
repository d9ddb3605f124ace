"""A preflight's report for people: a table of a model's checks, and one of a suite's models. Needs no torch."""

import textwrap
from collections.abc import Sequence
from typing import Any

WIDEST = 120


def table(report: dict[str, Any], width: int = 80, only_trouble: bool = False) -> str:
    """A line a check, and what to do about those that are not ok; at most `width` columns wide."""
    width = min(width, WIDEST)
    lines = [f"preflight {report['suite']}/{report['model']}: {report['verdict']}"]
    for check in report["checks"]:
        if only_trouble and check["verdict"] == "ok":
            continue
        limit = f" (limit: {check['limit']})" if check["limit"] and check["verdict"] != "ok" else ""
        mark = {"ok": "  ok", "warn": "warn", "fail": "FAIL"}[check["verdict"]]
        head = f"{mark}  {check['check']:<12}"
        lines += textwrap.wrap(f"{check['value']}{limit}", width, initial_indent=head, subsequent_indent=" " * len(head)) or [head]
        if check["advice"]:
            lines += textwrap.wrap(check["advice"], width, initial_indent=" " * len(head) + "→ ", subsequent_indent=" " * len(head) + "  ")
    return "\n".join(lines)


def overview(reports: Sequence[dict[str, Any]]) -> str:
    """A line a model: verdict, runs, time, memory, disk, what bounds it."""
    rows = [("", "model", "runs", "time a run", "range", "memory", "disk", "bound by")]
    for report in reports:
        found, needs = report.get("prediction") or {}, report.get("needs") or {}
        runs = int(report.get("runs", 1))
        rows.append((
            {"ok": "  ok", "warn": "warn", "fail": "FAIL"}[report["verdict"]], f"{report['suite']}/{report['model']}", str(runs),
            duration(found["minutes"]) if found else "–",
            f"{duration(found['low'])} – {duration(found['high'])}" if found else "–",
            f"{needs['memory_mb']:,.0f} MB" if needs else "–", f"{needs['checkpoint_bytes'] * runs / 1e6:,.1f} MB" if needs else "–",
            found.get("bound", "–"),
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = (0, 1, 7)
    return "\n".join(
        "  ".join(cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip() for row in rows
    )


def duration(minutes: float) -> str:
    """A time as a person says it."""
    if minutes < 2:
        return f"{max(1, round(60 * minutes))} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
