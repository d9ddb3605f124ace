"""An SVG element builder that escapes, a linear scale and its ticks."""

import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

CHARACTER = 6.1  # px a character of the 11 px chart font, on average


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """`<name …>children</name>`. Attribute names: `_` for `-`, a trailing `_` dropped; None is left out; all text is escaped."""
    parts = [Markup("<") + name]
    for key, value in attributes.items():
        if value is None:
            continue
        text = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
        parts.append(Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), text))
    inner = join(children)
    return join([*parts, Markup("/>") if not inner else Markup(">") + inner + Markup("</") + name + Markup(">")])


def join(parts: Any) -> Markup:
    return Markup("").join(escape(p) for p in parts if p is not None)


def text(x: float, y: float, words: str, class_: str = "t", anchor: str | None = None, tip: str | None = None) -> Markup:
    return tag("text", tag("title", tip) if tip else None, words, x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def figure(width: float, height: float, label: str, children: list[Markup], class_: str = "chart") -> Markup:
    """The svg element: scales down on narrow screens, never above its own size."""
    return tag(
        "svg",
        join(children),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        class_=class_,
        role="img",
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )


def shortened(words: str, most: int) -> str:
    """At most that many characters, cut in the middle: the ends tell names apart."""
    if len(words) <= most:
        return words
    tail = max(1, (most - 1) // 2)
    return words[: most - 1 - tail] + "…" + words[-tail:]


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to pixels [a, b]; a flat range is widened."""

    low: float
    high: float
    a: float
    b: float

    def __call__(self, value: float) -> float:
        return self.a + (value - self.low) / ((self.high - self.low) or 1.0) * (self.b - self.a)

    def ticks(self, about: int = 4) -> list[tuple[float, str]]:
        """Round values inside the range with their labels, about that many."""
        span = self.high - self.low
        if not math.isfinite(span) or span <= 0:
            return []
        raw = span / max(1, about)
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        values = [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        places = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if step / power == 2.5 else 0))
        return [(v, f"{v:,.{min(places, 8)}f}".replace("-", "−") if v else "0") for v in values]


def spanning(values: list[float], a: float, b: float, margin: float = 0.06, zero: bool = False) -> Scale:
    """A scale that holds all values (and zero, if asked) with a margin."""
    values = [v for v in values if v is not None and math.isfinite(v)] + ([0.0] if zero else [])
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    pad = (high - low) * margin
    return Scale(low if zero and low == 0 else low - pad, high if zero and high == 0 else high + pad, a, b)


def circle(x: float, y: float, r: float, class_: str, tip: str | None = None) -> Markup:
    return tag("circle", tag("title", tip) if tip else None, cx=float(x), cy=float(y), r=float(r), class_=class_)


def diamond(x: float, y: float, r: float, class_: str, tip: str | None = None) -> Markup:
    return tag(
        "path",
        tag("title", tip) if tip else None,
        d=f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}z",
        class_=class_,
    )


def square(x: float, y: float, r: float, class_: str, tip: str | None = None) -> Markup:
    return tag("rect", tag("title", tip) if tip else None, x=x - r, y=y - r, width=2.0 * r, height=2.0 * r, class_=class_)


def whisker(scale: Scale, low: float | None, high: float | None, y: float, class_: str, cap: float = 3.5) -> Markup:
    """An interval as a horizontal line with caps; nothing when an end is unknown."""
    if low is None or high is None:
        return Markup("")
    a, b = scale(low), scale(high)
    return tag("path", d=f"M{a:.1f} {y - cap:.1f}v{2 * cap:.1f}M{a:.1f} {y:.1f}H{b:.1f}M{b:.1f} {y - cap:.1f}v{2 * cap:.1f}", class_=class_)


def axis(scale: Scale, y: float, top: float, about: int = 4, percent: bool = False) -> list[Markup]:
    """A horizontal axis at y with grid lines up to top; percent: shares as percentages."""
    parts = [line(min(scale.a, scale.b), y, max(scale.a, scale.b), y, "ax")]
    for value, label in scale.ticks(about):
        x = scale(value)
        parts += [line(x, top, x, y, "grid"), text(x, y + 13, f"{100 * value:.0f} %" if percent else label, "tm", "middle")]
    return parts
