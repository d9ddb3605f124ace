"""Folds and seeds one by one: the model beside its simple baseline on the same held-out samples, and the mean."""

from markupsafe import Markup

from trainyard.report.charts.svg import axis, circle, figure, line, spanning, square, text
from trainyard.report.numbers import num
from trainyard.report.views.runs import Score

WIDTH, LANE, LEFT, MOST = 420.0, 17.0, 62.0, 40


def folds(scores: list[Score], labels: list[str], mean: Score, label: str) -> Markup:
    """A row a run: a line from the simple baseline to the model. The mean has a line of its own."""
    scores, hidden = scores[:MOST], max(0, len(scores) - MOST)
    values = [v for s in scores for v in (s.value, s.simple) if v is not None]
    scale = spanning(values, LEFT, WIDTH - 48)
    bottom = 6 + LANE * len(scores)
    parts = axis(scale, bottom, 2)
    if mean.value is not None:
        parts.append(line(scale(mean.value), 2, scale(mean.value), bottom, "mean"))
    for i, (s, name) in enumerate(zip(scores, labels)):
        y = 6 + LANE * i + LANE / 2
        parts.append(text(0, y + 4, name, "tm"))
        if s.value is None:
            parts.append(text(WIDTH, y + 4, "–", "tn", "end"))
            continue
        if s.simple is not None:
            parts += [
                line(scale(s.simple), y, scale(s.value), y, "lead" if s.ahead else "lag"),
                square(scale(s.simple), y, 3.6, "simple", f"{s.simple_name} {num(s.simple)}"),
            ]
        parts += [circle(scale(s.value), y, 4, "model", f"{s.run} {num(s.value)}"), text(WIDTH, y + 4, num(s.value), "tn", "end")]
    if hidden:
        parts.append(text(0, bottom + 27, f"and {hidden} more in the table", "tm"))
    return figure(WIDTH, bottom + (32 if hidden else 18), label, parts)
