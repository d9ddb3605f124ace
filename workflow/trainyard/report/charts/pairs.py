"""How much adapters agree, two by two: a matrix of figures with shades."""

from typing import Any

from markupsafe import Markup

from trainyard.report.certificate_facts import matrix
from trainyard.report.charts.svg import figure, tag, text
from trainyard.report.numbers import num


def pair_matrix(values: list[list[float]], label: str, chance: float = 0.0) -> Markup:
    """Rows and columns: adapters by number. Shade: how far above chance (blue) or below it (orange), up to full agreement."""
    cell, left, top = (34.0 if len(values) <= 8 else max(13.0, 300.0 / len(values))), 22.0, 18.0
    size = cell * len(values)
    parts = []
    for i, row in enumerate(values):
        parts += [
            text(left + cell * (i + 0.5), top - 5, str(i + 1), "tm", "middle"),
            text(left - 5, top + cell * (i + 0.5) + 4, str(i + 1), "tm", "end"),
        ]
        for j, value in enumerate(row):
            x, y = left + cell * j, top + cell * i
            strength = min(1.0, abs(value - chance) / (1 - chance))
            tip = f"adapters {i + 1} and {j + 1}: {num(value, 4)}"
            shade = f"cell{' below' if value < chance else ''}"
            place = {"x": x, "y": y, "width": cell - 1.5, "height": cell - 1.5, "rx": 2}
            parts.append(tag("rect", tag("title", tip), **place, class_=shade, fill_opacity=f"{0.04 + 0.9 * strength:.2f}"))
            if cell >= 30:
                parts.append(
                    text(x + cell / 2 - 0.7, y + cell / 2 + 3, num(value, 2), f"{'ton' if strength > 0.5 else 't'} mid small", "middle")
                )
    return figure(left + size + 2, top + size + 2, label, parts)


def agreement_charts(certificate: dict[str, Any]) -> list[tuple[str, Markup]]:
    """(title, chart): cosine and signs, where more than one adapter went in."""
    found = []
    for key, title, chance in (
        ("cosine", "Cosine of the updates: 1 they agree, 0 they have nothing in common", 0.0),
        ("sign_agreement", "Share of the entries where two have one sign: 0.5 is chance", 0.5),
    ):
        square = matrix(certificate, key)
        if len(square) > 1:
            found.append((title, pair_matrix(square, title, chance)))
    return found
