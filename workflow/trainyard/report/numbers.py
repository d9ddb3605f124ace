"""Figures as people read them: three significant digits, a true minus, units."""

import math
from datetime import datetime

from trainyard.report.views.runs import Difference, Score

MINUS, NONE = "−", "–"


def decimals(*values: float | None) -> int:
    """Decimals that give the largest of the values three significant digits, 0 to 6."""
    largest = max((abs(v) for v in values if v is not None), default=0.0)
    if largest == 0:
        return 2
    return min(6, max(0, 2 - math.floor(math.log10(largest) + 1e-9)))


def num(value: float | None, places: int | None = None) -> str:
    if value is None:
        return NONE
    text = f"{value:,.{decimals(value) if places is None else places}f}"
    if text.startswith("-"):
        text = text[1:] if not text.strip("-0.,") else MINUS + text[1:]
    return text


def signed(value: float | None, places: int | None = None) -> str:
    text = num(value, places)
    return text if value is None or value <= 0 or not text.strip("0.,") else "+" + text


def interval(low: float | None, high: float | None, places: int | None = None) -> str:
    if low is None or high is None:
        return ""
    places = decimals(low, high) if places is None else places
    return f"[{num(low, places)}, {num(high, places)}]"


def score_text(score: Score) -> str:
    """`0.969 [0.930, 0.992]`, for gathered runs without an interval `0.790 ± 0.031`."""
    return f"{score_value(score)} {score_range(score)}".strip()


def score_value(score: Score) -> str:
    return num(score.value, _places(score))


def score_range(score: Score) -> str:
    """`[0.930, 0.992]`, or `± 0.031` over runs where there is no interval."""
    if score.low is not None and score.high is not None:
        return interval(score.low, score.high, _places(score))
    return f"± {num(score.spread, _places(score))}" if score.spread is not None else ""


def _places(score: Score) -> int:
    return decimals(score.value, score.trivial if score.trivial and abs(score.trivial) < 1 else None)


def difference_value(difference: Difference | None) -> str:
    return NONE if difference is None or difference.value is None else signed(difference.value, _difference_places(difference))


def difference_range(difference: Difference | None) -> str:
    return "" if difference is None else interval(difference.low, difference.high, _difference_places(difference))


def _difference_places(difference: Difference) -> int:
    return decimals(difference.value, difference.low, difference.high)


def difference_text(difference: Difference | None) -> str:
    return f"{difference_value(difference)} {difference_range(difference)}".strip()


def percent(share: float | None) -> str:
    """A probability: never rounded to certainty."""
    if share is None:
        return NONE
    if share > 0.999:
        return ">\u00a099.9\u00a0%"
    if share < 0.001:
        return "<\u00a00.1\u00a0%"
    return f"{100 * share:.1f}\u00a0%" if share > 0.99 or share < 0.01 else f"{100 * share:.0f}\u00a0%"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h"


def count(value: float | None) -> str:
    """Parameters and the like: 33.4 k, 1.1 M."""
    if value is None:
        return NONE
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scaled = value / (1e3 if letter == "k" else size)
            return f"{scaled:.{decimals(scaled) if abs(scaled) < 100 else 0}f} {letter}"
    return f"{value:,.0f}"


def size(value: float | None) -> str:
    if value is None:
        return NONE
    for unit, letters in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit:
            return f"{value / unit:.{0 if value / unit >= 100 else 1}f} {letters}"
    return f"{value:.0f} B"


def plural(n: int, word: str, many: str | None = None) -> str:
    return f"{n:,} {word if n == 1 else many or word + 's'}"


def clock(text: str) -> str:
    """An ISO time as `2026-01-25 19:44 UTC`; anything else as it is."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return found.strftime("%Y-%m-%d %H:%M") + (" " + (found.tzname() or "") if found.tzinfo else "")
