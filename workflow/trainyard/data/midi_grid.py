"""The bars and sixteenths of a song, and where its notes lie on them.

A bar is the file's own, by its time signatures; bars longer than 16 steps are halved until they fit.
"""

import math
from dataclasses import dataclass

import numpy as np

from trainyard.data.midi_file import LENGTH, TICK, Score

STEPS = 16  # of a bar, at most


@dataclass(slots=True)
class Places:
    """Where notes lie on the grid, (n,) int64 each: bar, nearest step in it, and that step counted from the first bar."""

    bar: np.ndarray
    step: np.ndarray
    count: np.ndarray


@dataclass(slots=True)
class Grid:
    """Bars of a song: `edges` (bars + 1,): where each starts and the last ends (ticks), how many steps it has, its tempo (float32);
    `step`: ticks a sixteenth.

    `length`: ticks of every bar where they are all alike, else 0. `cut`: notes begin or sound behind the last bar. Whole numbers of
    ticks are ints: then so is what is counted in them.
    """

    edges: np.ndarray
    steps: np.ndarray
    tempo: np.ndarray
    end: float
    step: float
    length: float
    cut: bool

    @property
    def starts(self) -> np.ndarray:
        return self.edges[:-1]

    def bars_at(self, ticks: np.ndarray) -> np.ndarray:
        """The bar that each tick of the song lies in."""
        if not self.length:
            return self.starts.searchsorted(ticks, "right") - 1
        # Floor division of floats takes several times as long.
        if ticks.dtype.kind == "i" and isinstance(self.length, int):
            return ticks // self.length
        return (ticks / self.length).astype(np.int64)

    def locate(self, ticks: np.ndarray) -> Places:
        """The nearest grid point of each tick; of two as near, the even one."""
        size = self.steps[0]
        if self.length == size * self.step and not size % 2:
            # Bars alike, of whole steps: which step of the song says which bar; and even in the one is even in the other.
            count = np.rint(ticks / self.step).astype(np.int64)
            np.minimum(count, size * len(self.steps) - 1, out=count)
            bar = count // size
            return Places(bar, count - bar * size, count)
        # Half a step early: a beat that is played just before the bar line belongs to the bar that it opens.
        bar = self.bars_at(ticks + whole(self.step / 2))
        np.minimum(bar, len(self.steps) - 1, out=bar)
        step = np.rint(self.exact(ticks, bar)).astype(np.int64)
        np.maximum(step, 0, out=step)
        np.minimum(step, self.steps.take(bar) - 1, out=step)
        return Places(bar, step, (self.steps.cumsum() - self.steps).take(bar) + step)

    def exact(self, ticks: np.ndarray, bar: np.ndarray) -> np.ndarray:
        """The place of each tick in its bar, in steps."""
        return (ticks - self.starts.take(bar)) / self.step


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
    for tick, beats, unit in score.meters:
        length = 4.0 * quarter * beats / unit if unit > 0 else 0.0
        if not quarter / 4 <= length <= 64 * quarter:
            length = 4.0 * quarter
        while length > 4 * quarter:
            length /= 2
        changes[max(tick, 0)] = (length, math.ceil(length / quarter * 4 - 1e-9))
    marks = sorted(changes)
    parts, bars = [], 0
    for mark, until in zip(marks, [*marks[1:], end]):
        length, count = changes[mark]
        more = min(math.ceil(max(min(until, end) - mark, 0) / length), max_bars - bars)
        parts.append((mark, whole(length), count, bars, bars + more))
        bars += more
    counted = all(isinstance(length, int) for _, length, *_ in parts)
    edges, steps = np.empty(bars + 1, np.int64 if counted else np.float64), np.empty(bars, np.int64)
    for mark, length, count, first, last in parts:
        edges[first:last] = mark + length * np.arange(last - first)
        steps[first:last] = count
    stop = whole(min(edges[-2].item() + int(steps[-1]) * quarter / 4, end + 1))
    if counted and not isinstance(stop, int):
        edges = edges.astype(np.float64)
    edges[-1] = stop
    return Grid(edges, steps, _tempos(score, edges[:-1]), stop, quarter / 4, parts[0][1] if len(marks) == 1 else 0, stop < end)


def _tempos(score: Score, edges: np.ndarray) -> np.ndarray:
    """The tempo at each edge, float32."""
    at, tempo = score.tempos
    if len(tempo) == 1 and 10 <= tempo[0] <= 1000:
        return tempo.astype(np.float32).repeat(len(edges))
    good = (tempo >= 10) & (tempo <= 1000)
    if not good.any():
        at, tempo = np.zeros(1), np.array([120.0])
    elif not good.all():
        at, tempo = at[good], tempo[good]
    return tempo.astype(np.float32)[np.maximum(at.searchsorted(edges, "right") - 1, 0)]
