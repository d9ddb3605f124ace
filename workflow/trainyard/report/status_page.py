"""The status as Markdown: date, one sentence, warnings, and a row a model. For a mail, a pull request, a terminal."""

import re

from trainyard.report import numbers, words
from trainyard.report.loose import number
from trainyard.report.views.runs import Run
from trainyard.report.views.whole import Report


def status_page(report: Report) -> str:
    lines = [
        "# Training status",
        "",
        f"**Date**: {report.built}" + (" (partial: the workflow did not end well)" if report.partial else ""),
        "",
    ]
    lines += ["## Summary", "", plain(words.verdict(report)), ""]
    if said := words.bound(report):
        lines += [plain(said), ""]
    found = words.warnings(report)
    lines += ["## Warnings", ""] + ([f"- {plain(w)}" for w in found] if found else ["None."]) + [""]
    lines += [
        "## Models",
        "",
        "| suite | model | runs | metric | test | trivial | simple | difference to simple | sure | training |",
        "|" + "---|" * 10,
    ]
    for m in report.models:
        h = m.headline
        done = f"{m.states['done']}/{len(m.runs)}"
        cells = [m.suite, m.name, done if m.state == "done" else f"{done}, {m.state}"]
        if h:
            cells += [
                f"{h.label} {'↑' if h.direction == 'max' else '↓'}",
                numbers.score_text(h),
                numbers.num(h.trivial),
                numbers.num(h.simple),
                f"{words.SYMBOL[words.against(h, 'simple')]} {numbers.difference_text(h.vs_simple)}",
                numbers.percent(h.vs_simple.p_better if h.vs_simple else None),
            ]
        else:
            cells += [m.reason or "no figures", *[numbers.NONE] * 5]
        lines.append("| " + " | ".join(plain(c) for c in [*cells, numbers.duration(m.seconds)]) + " |")
    running = [r for r in report.runs if r.state != "done" and r.progress]
    if running:
        lines += ["", "## Not finished", ""]
        lines += [f"- {plain(progress_line(r))}" for r in running]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace").decode()


def progress_line(run: Run) -> str:
    """`kmidi/melody: epoch 3 of 50, loss 1.25, 10 min to 20 min left, on yard-2`"""
    p = run.progress
    low, high, loss = (number(p.get(key)) for key in ("eta_low", "eta_high", "loss"))
    left = f", {numbers.duration(low)} to {numbers.duration(high)} left" if low is not None else ""
    return f"{run.suite}/{run.name}: epoch {p.get('epoch')} of {p.get('epochs')}, loss {numbers.num(loss)}{left}, on {p.get('host')}"


def plain(text: str) -> str:
    """Text that Markdown shows as it is: one line, and no character that would become markup."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;")
