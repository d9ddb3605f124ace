"""The bars and sixteenths of a song, and where its notes lie on them.

A bar is the file's own, by its time signatures; bars longer than 16 steps are halved until they fit.
"""

import math
from dataclasses import dataclass

import numpy as np

from trainyard.data.midi_file import LENGTH, TICK, Score

STEPS = 16  # of a bar, at most


@dataclass(frozen=True)
class Places:
    """Where notes lie on the grid, (n,) each: bar, nearest step in it, that step counted from the first bar, exact place in the bar in
    steps, and whether inside the bars."""

    bar: np.ndarray
    step: np.ndarray
    count: np.ndarray
    exact: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True)
class Grid:
    """Bars of a song: where each starts (ticks), how many steps it has, its tempo; `step`: ticks a sixteenth.

    `length`: ticks of every bar where they are all alike, else 0. Whole numbers of ticks are ints: then so is what is counted in them.
    """

    starts: np.ndarray
    steps: np.ndarray
    tempo: np.ndarray
    end: float
    step: float
    length: float

    def bars_at(self, ticks: np.ndarray) -> np.ndarray:
        """The bar that each tick lies in; the last one for those behind it."""
        if not self.length:
            return self.starts.searchsorted(ticks, "right") - 1
        # Floor division of floats takes several times as long.
        bars = ticks // self.length if ticks.dtype.kind == "i" and isinstance(self.length, int) else (ticks / self.length).astype(np.int64)
        return np.minimum(bars, len(self.starts) - 1, out=bars)

    def locate(self, ticks: np.ndarray) -> Places:
        """The nearest grid point of each tick."""
        # Half a step early: a beat that is played just before the bar line belongs to the bar that it opens.
        bar = self.bars_at(ticks + whole(self.step / 2))
        exact = (ticks - self.starts.take(bar)) / self.step
        step = np.rint(exact).astype(np.int64)
        np.maximum(step, 0, out=step)
        if self.length:
            np.minimum(step, self.steps[0] - 1, out=step)
            count = bar * self.steps[0] + step
        else:
            np.minimum(step, self.steps.take(bar) - 1, out=step)
            count = (self.steps.cumsum() - self.steps).take(bar) + step
        return Places(bar, step, count, exact, ticks < self.end)


def whole(number: float) -> float:
    """The number, as an int where it is one."""
    return int(number) if number == int(number) else number


def bar_grid(score: Score, max_bars: int) -> Grid:
    """The bars up to the last note, at most `max_bars`. Nonsense meters and tempos count as 4/4 and 120."""
    quarter = score.quarter
    # A last note just before a bar line opens one more bar.
    start = score.notes[TICK]
    end = max(int((start + score.notes[LENGTH]).max()), int(start.max()) + quarter // 8 + 1, 1)
    changes = {0: (4.0 * quarter, STEPS)}
    for tick, beats, unit in score.meters.T.tolist():
        length, parts = 4.0 * quarter * beats / unit if unit > 0 else 0.0, 1
        if not quarter / 4 <= length <= 64 * quarter:
            length = 4.0 * quarter
        while length / parts > 4 * quarter:
            parts *= 2
        changes[max(tick, 0)] = (length / parts, math.ceil(length / parts / quarter * 4 - 1e-9))
    marks = sorted(changes)
    starts, steps, left = [], [], max_bars
    for mark, until in zip(marks, [*marks[1:], end]):
        length, count = changes[mark]
        bars = min(math.ceil(max(min(until, end) - mark, 0) / length), left)
        starts.append(mark + length * np.arange(bars))
        steps.append(np.full(bars, count))
        left -= bars
    edges, widths = (np.concatenate(starts), np.concatenate(steps)) if len(marks) > 1 else (starts[0], steps[0])
    stop = min(edges[-1] + int(widths[-1]) * quarter / 4, end + 1)
    return Grid(edges, widths, _tempos(score, edges), whole(stop), quarter / 4, whole(changes[0][0]) if len(marks) == 1 else 0)


def _tempos(score: Score, edges: np.ndarray) -> np.ndarray:
    """The tempo at each edge."""
    at, tempo = score.tempos
    if len(tempo) == 1 and 10 <= tempo[0] <= 1000:
        return np.full(len(edges), tempo[0])
    good = (tempo >= 10) & (tempo <= 1000)
    if not good.any():
        at, tempo = np.zeros(1), np.array([120.0])
    elif not good.all():
        at, tempo = at[good], tempo[good]
    return tempo[np.maximum(at.searchsorted(edges, "right") - 1, 0)]
