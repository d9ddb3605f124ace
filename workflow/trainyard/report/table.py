"""The comparison as text for a terminal of 80 columns, or less."""

import textwrap
from typing import Any

from trainyard.report.compare import percent, verdicts

WIDTH = 80


def figure(value: float | None) -> str:
    """A number in at most seven characters: three decimals, or as many digits as say something."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1e5 or 0 < size < 5e-4:
        return f"{value:.1e}"
    return f"{value:.3f}" if size < 100 else f"{value:.1f}" if size < 1e4 else f"{value:.0f}"


def comparison_table(comparison: dict[str, Any], width: int = WIDTH) -> str:
    """The headline of every model: value and 95 % interval, baselines, whether they are beaten and how surely."""
    name_width = max(8, min(22, width - 60, max([len(s["model"]) for s in comparison["models"]], default=8)))
    lines = [_line(name_width, "model", "metric", "value [95 % interval]", "trivial", "simple", "better?")]
    lines.append("─" * min(width, name_width + 60))
    for section in comparison["models"]:
        head = section["headline"]
        if head is None:
            states = sorted({r["state"] for r in comparison["rows"] if r["model"] == section["model"]})
            lines.append(f"{_short(section['model'], name_width)} {', '.join(states)}")
            continue
        value = figure(head["value"])
        if head["ci_low"] is not None:
            value += f" [{figure(head['ci_low'])}, {figure(head['ci_high'])}]"
        arrow = "↑" if head["direction"] == "max" else "↓"
        cells = f"{head['metric']}{arrow}", value, figure(head["baseline"]), figure(head["simple"]), _better(head)
        lines.append(_line(name_width, _short(section["model"], name_width), *cells))
    lines.append("better? than trivial / simple: yes, no, or how sure (↑ higher is better)")
    for note in comparison["notes"]:
        lines += textwrap.wrap(note, width, initial_indent="· ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def _line(name_width: int, name: str, metric: str, value: str, trivial: str, simple: str, better: str) -> str:
    return f"{name:<{name_width}} {metric:<10.10} {value:<22} {trivial:>7} {simple:>7} {better}".rstrip()


def _better(head: dict[str, Any]) -> str:
    said = verdicts(head)
    words = [said.get(level, "–") if said.get(level) != "unsure" else percent(head[f"p_better_{level}"]) for level in ("trivial", "simple")]
    return "/".join(words)


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
