"""Bars of a metric by part (dimension, target) for all models of a suite that predict several."""

from markupsafe import Markup

from trainyard.report.charts.svg import CHARACTER, axis, diamond, figure, line, shortened, spanning, square, tag, text, whisker
from trainyard.report.numbers import num
from trainyard.report.views.runs import Score

WIDTH, LANE, HEAD = 460.0, 15.0, 19.0
IN_UNITS = {"rmse", "mae"}  # parts have their own units: only their share of the trivial baseline's error can share an axis


def by_part(scores: list[Score], label: str) -> Markup:
    """Scores of one metric; grouped by part, a bar a model, with interval and baselines."""
    relative = scores[0].metric in IN_UNITS
    scores = [s for s in scores if s.value is not None and (not relative or s.trivial)]
    if not scores:
        return Markup("")
    drawn = {id(s): [_over(v, s.trivial if relative else None) for v in (s.value, s.low, s.high, s.trivial, s.simple)] for s in scores}
    left = min(150.0, 10 + CHARACTER * max(min(len(s.model), 20) for s in scores))
    scale = spanning([v for row in drawn.values() for v in row if v is not None], left, WIDTH - 46, 0.03, zero=True)
    parts: list[Markup] = []
    y = 2.0
    for part in dict.fromkeys(s.part for s in scores):
        parts.append(text(0, y + 13, part, "tb"))
        y += HEAD
        for s in (s for s in scores if s.part == part):
            value, low, high, trivial, simple = drawn[id(s)]
            a, b = sorted((scale(0.0), scale(value or 0.0)))
            tip = f"{s.model}, {part}: {num(s.value)}; trivial {num(s.trivial)}, simple {num(s.simple)}"
            parts.append(text(left - 6, y + 10, shortened(s.model, 20), "tm", "end", tip=s.model))
            parts.append(tag("rect", tag("title", tip), x=a, y=y + 2, width=max(1.0, b - a), height=LANE - 5, class_="bar"))
            if trivial is not None:
                parts.append(diamond(scale(trivial), y + LANE / 2 - 0.5, 4, "trivial"))
            if simple is not None:
                parts.append(square(scale(simple), y + LANE / 2 - 0.5, 3.4, "simple"))
            parts.append(whisker(scale, low, high, y + LANE / 2 - 0.5, "ci on", 2.5))
            parts.append(text(WIDTH, y + 10, f"{100 * (value or 0.0):.0f} %" if relative else num(s.value), "tn", "end"))
            y += LANE
        y += 4
    parts = [*axis(scale, y, 4, percent=relative), line(scale(0.0), 4, scale(0.0), y, "zero"), *parts]
    return figure(WIDTH, y + 18, label, parts)


def _over(value: float | None, unit: float | None) -> float | None:
    return value if unit is None or value is None else value / unit
