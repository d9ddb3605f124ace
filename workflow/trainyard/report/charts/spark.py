"""The difference to a baseline as a mark in a table cell: zero in the middle, each row on its own scale."""

from markupsafe import Markup

from trainyard.report.charts.svg import Scale, circle, figure, line, whisker
from trainyard.report.views.runs import Difference


def spark(difference: Difference | None, label: str) -> Markup:
    if difference is None or difference.value is None:
        return Markup("")
    reach = max(abs(v) for v in (difference.value, difference.low, difference.high) if v is not None) or 1.0
    scale = Scale(-reach * 1.08, reach * 1.08, 3, 77)
    kind = difference.verdict
    parts = [line(40, 1, 40, 15, "zero"), whisker(scale, difference.low, difference.high, 8, f"ci {kind}", 2.5)]
    return figure(80, 16, label, [*parts, circle(scale(difference.value), 8, 3.2, f"point {kind}")], "spark")
