"""Forest plot: each model's figure with its interval, beside its trivial and its simple baseline, on one axis."""

from markupsafe import Markup

from trainyard.report.charts.svg import axis, circle, diamond, figure, line, shortened, spanning, square, text, whisker
from trainyard.report.numbers import num, score_text
from trainyard.report.views.runs import Score

WIDTH, ROW, SIDE = 420.0, 42.0, 14.0


def forest(scores: list[Score], single: dict[str, list[float]], label: str) -> Markup:
    """Rows share the part and the metric; `single` holds the values of a model's own runs (folds, seeds), drawn small."""
    every = [v for s in scores for v in (s.value, s.low, s.high, s.trivial, s.simple, *single.get(s.model, [])) if v is not None]
    scale = spanning(every, SIDE, WIDTH - SIDE)
    bottom = 6 + ROW * len(scores)
    parts = axis(scale, bottom, 4)
    for i, s in enumerate(scores):
        y = 6 + ROW * i
        if i:
            parts.append(line(0, y - 2, WIDTH, y - 2, "rule"))
        parts += [text(0, y + 11, shortened(s.model, 30), "tb", tip=s.model), text(WIDTH, y + 11, score_text(s), "tn", "end")]
        lane = y + 27
        for value in single.get(s.model, []):
            parts.append(circle(scale(value), lane + 7.5, 2.2, "dot", num(value)))
        if s.trivial is not None:
            parts.append(diamond(scale(s.trivial), lane, 5, "trivial", f"trivial: {s.trivial_name} {num(s.trivial)}"))
        if s.simple is not None:
            parts.append(square(scale(s.simple), lane, 4.2, "simple", f"simple: {s.simple_name} {num(s.simple)}"))
        parts.append(whisker(scale, s.low, s.high, lane, "ci"))
        if s.value is not None:
            parts.append(circle(scale(s.value), lane, 4.6, "model", f"{s.model} {score_text(s)}"))
    side, anchor, words = (WIDTH, "end", "better →") if scores[0].direction == "max" else (0, None, "← better")
    parts.append(text(side, bottom + 27, words, "tm", anchor))
    return figure(WIDTH, bottom + 32, label, parts)
