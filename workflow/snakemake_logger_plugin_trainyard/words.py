"""Small words for people: durations, ranges, counts, lists of names. Everything fits into 80 columns."""

import re
import textwrap
import time
from collections.abc import Iterable

WIDTH = 79


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`, `3.2 days`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{seconds / 86400:.1f} days"


def span(low: float, high: float) -> str:
    """A range in one unit: `40–55 s`, `3–5 min`, `1.2–2 h`; one figure where both ends read the same."""
    if high < 0.95:
        return "under 1 s"
    for limit, size, unit in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h"), (float("inf"), 86400, "days")):
        if high < limit:
            first, second = (f"{low:.0f}", f"{high:.0f}") if unit == "s" else (_figure(low / size), _figure(high / size))
            return f"{second} {unit}" if first == second else f"{first}–{second} {unit}"
    raise AssertionError("unreachable")


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or value < 0.05 else f"{value:.1f}".removesuffix(".0")


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))


def shorten(text: str, width: int) -> str:
    """At most `width` characters; what is left out in the middle is an ellipsis, because both ends of a name matter."""
    if len(text) <= width:
        return text
    if width < 4:
        return text[: max(width, 0)]
    head = (width - 1) * 3 // 5
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


def wrap(text: str, indent: int = 0, width: int = WIDTH, lines: int | None = None) -> list[str]:
    """Lines of at most `width`, indented; words (paths) are never broken; after `lines` lines an ellipsis."""
    pad = " " * indent
    out = textwrap.wrap(text, width, initial_indent=pad, subsequent_indent=pad, break_long_words=False, break_on_hyphens=False) or [
        pad.rstrip()
    ]
    if lines and len(out) > lines:
        out = [*out[: lines - 1], shorten(out[lines - 1], width - 2) + " …"]
    return out


def fold_names(names: Iterable[str]) -> list[str]:
    """Names that differ only in a last number as one: als-fold1, als-fold2, als-fold3 → als-fold1…3."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names), key=natural):
        match = re.fullmatch(r"(.*?)(\d+)", name)
        groups.setdefault(match[1] + "\0" if match else name, []).append(match[2] if match else "")
    out = []
    for key, numbers in groups.items():
        if not key.endswith("\0"):
            out.append(key)
            continue
        stem, start = key[:-1], 0
        for at in range(1, len(numbers) + 1):
            if at == len(numbers) or int(numbers[at]) != int(numbers[at - 1]) + 1:
                run = numbers[start:at]
                out += [f"{stem}{run[0]}…{run[-1]}"] if len(run) > 2 else [stem + n for n in run]
                start = at
    return out


def natural(text: str) -> list:
    """Sort key: numbers in names by value."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


def name_list(names: Iterable[str], most: int = 12) -> str:
    """Folded names with commas; beyond `most` of them, how many more."""
    folded = fold_names(names)
    if len(folded) <= most:
        return ", ".join(folded)
    return ", ".join(folded[: most - 1]) + f" and {len(folded) - most + 1} more"
