"""The status as Markdown: date, one sentence, warnings, and a row a model. For a mail, a pull request, a terminal."""

import re

from trainyard.report import numbers, words
from trainyard.report.views import Report


def status_page(report: Report) -> str:
    lines = ["# Training status", "", f"**Date**: {report.built}" + (" (partial: the workflow did not end well)" if report.partial else ""), ""]
    lines += ["## Summary", "", plain(words.verdict(report)), ""]
    if said := words.bound(report):
        lines += [plain(said), ""]
    found = words.warnings(report)
    lines += ["## Warnings", ""] + ([f"- {plain(w)}" for w in found] if found else ["None."]) + [""]
    lines += ["## Models", "", "| suite | model | runs | metric | test | trivial | simple | difference to simple | sure | training |", "|" + "---|" * 10]
    for m in report.models:
        h = m.headline
        done = f"{m.states['done']}/{len(m.runs)}"
        cells = [m.suite, m.name, done if m.state == "done" else f"{done}, {m.state}"]
        if h:
            cells += [f"{h.label} {'↑' if h.direction == 'max' else '↓'}", numbers.score_text(h), numbers.num(h.trivial), numbers.num(h.simple),
                      f"{words.SYMBOL[words.against(h, 'simple')]} {numbers.difference_text(h.vs_simple)}",
                      numbers.percent(h.vs_simple.p_better if h.vs_simple else None)]  # fmt: skip
        else:
            cells += [m.reason or "no figures", *[numbers.NONE] * 5]
        lines.append("| " + " | ".join(plain(c) for c in [*cells, numbers.duration(m.seconds)]) + " |")
    running = [r for r in report.runs if r.state != "done" and r.progress]
    if running:
        lines += ["", "## Not finished", ""]
        for r in running:
            p = r.progress
            eta = f", {numbers.duration(numbers_of(p, 'eta_low'))} to {numbers.duration(numbers_of(p, 'eta_high'))} left" if p.get("eta_low") is not None else ""
            lines.append(plain(f"- {r.suite}/{r.name}: epoch {p.get('epoch')} of {p.get('epochs')}, loss {numbers.num(numbers_of(p, 'loss'))}{eta}, on {p.get('host')}"))
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace").decode()


def numbers_of(progress: dict, key: str) -> float | None:
    from trainyard.report.loose import number

    return number(progress.get(key))


def plain(text: str) -> str:
    """Text that Markdown shows as it is: one line, and no character that would become markup."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;")
