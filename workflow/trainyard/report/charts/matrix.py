"""Confusion matrix of a class part and its reliability diagram."""

from markupsafe import Markup

from trainyard.report.charts.svg import CHARACTER, Scale, circle, figure, line, shortened, tag, text
from trainyard.report.numbers import num, percent
from trainyard.report.views.extras import Tally


def confusion(tally: Tally, label: str) -> Markup:
    """Rows: true class; columns: predicted; each cell's share of its row, as shade and as a figure."""
    k = len(tally.classes)
    cell = 46.0 if k <= 4 else 34.0 if k <= 8 else max(13.0, 300.0 / k)
    most = 12 if k <= 8 else 8
    left = max(50.0, 8 + CHARACTER * min(most, max(len(c) for c in tally.classes)) + 6)
    top = 32.0
    width, height = left + cell * k + 2, top + cell * k + 4
    parts = [text(left, 11, "predicted →", "tm"), tag("text", "true ↓", x=0, y=11, class_="tm")]
    for i, name in enumerate(tally.classes):
        if k <= 8:
            parts.append(text(left + cell * (i + 0.5), 26, shortened(name, max(3, int(cell / CHARACTER))), "tm", "middle", tip=name))
        parts.append(text(left - 6, top + cell * (i + 0.5) + 4, shortened(name, most), "tm", "end", tip=name))
        total = sum(tally.counts[i])
        for j, n in enumerate(tally.counts[i]):
            share = n / total if total else 0.0
            x, y = left + cell * j, top + cell * i
            tip = f"true {name}, predicted {tally.classes[j]}: {n} of {total}"
            parts.append(
                tag(
                    "rect",
                    tag("title", tip),
                    x=x,
                    y=y,
                    width=cell - 1.5,
                    height=cell - 1.5,
                    rx=2,
                    class_="cell" + (" hit" if i == j else ""),
                    fill_opacity=f"{0.04 + 0.9 * share:.2f}",
                )
            )
            if cell >= 30 and n:
                shade = "ton" if share > 0.5 else "t"
                parts.append(text(x + cell / 2 - 0.7, y + cell / 2 + (0 if cell > 40 else 4), str(n), f"{shade} mid", "middle"))
                if cell > 40:
                    parts.append(
                        text(x + cell / 2 - 0.7, y + cell / 2 + 13, percent(share) if share < 1 else "100 %", f"{shade} small", "middle")
                    )
    return figure(max(width, 90), height, label, parts)


def reliability(tally: Tally, label: str) -> Markup:
    """How often it happened against how likely it was said to be; on the diagonal the probabilities can be taken at their word."""
    size, left, top = 150.0, 40.0, 12.0
    x, y = Scale(0, 1, left, left + size), Scale(0, 1, top + size, top)
    parts = [line(x(0), y(0), x(1), y(1), "zero"), tag("rect", x=left, y=top, width=size, height=size, class_="frame")]
    for value in (0.0, 0.5, 1.0):
        parts += [text(x(value), top + size + 13, num(value, 1), "tm", "middle"), text(left - 4, y(value) + 4, num(value, 1), "tm", "end")]
    total = sum(n for _, _, n in tally.reliability) or 1
    for said, found, n in tally.reliability:
        parts.append(
            circle(x(said), y(found), 2 + 7 * (n / total) ** 0.5, "model soft", f"said {num(said, 2)}, found {num(found, 2)}, n {n}")
        )
    who = f"probability of “{shortened(tally.classes[1], 14)}”" if len(tally.classes) == 2 else "confidence"
    parts.append(text(left + size / 2, top + size + 27, f"said: {who}", "tm", "middle"))
    parts.append(
        tag("text", "found", x=9, y=top + size / 2, class_="tm", text_anchor="middle", transform=f"rotate(-90 9 {top + size / 2:.0f})")
    )
    return figure(left + size + 12, top + size + 32, label, parts)
