"""Songs from MIDI files: melody, chords, chroma and drums, quantised to sixteenths.

Fields of a song (all ragged; a song may lack any of melody, chords and drums, which are then empty):

| field | |
|---|---|
| melody | (notes, 3) int16: pitch index, duration index, step in the bar |
| chords | (bars,) int16: 0–11 major, 12–23 minor triads on C, C♯ …; 24 where nothing sounds |
| chroma | (bars, 12) float16: share of each pitch class in the sounding time of a bar, zeros where nothing sounds |
| hits | (hits, 4) int16: step (16 × bar + step in the bar), drum class, velocity, offset from the grid in thousandths of a step |
| tempo | (bars,) float32: quarter notes a minute |

A bar is the file's own, by its time signatures; bars longer than 16 steps are halved until they fit.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainyard.config.features import MidiFeatures
from trainyard.data.midi_file import LENGTH, PITCH, TICK, VELOCITY, Score, Track, read_score
from trainyard.data.refused import Refused

STEPS = 16
LOWEST, PITCHES = 36, 61
DURATIONS = (1, 2, 3, 4, 6, 8, 12, 16)
NO_CHORD = 24
OFFSET_UNIT = 1000
NAMES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
CHORDS = (*NAMES, *(f"{n}m" for n in NAMES), "–")
DRUMS = ("kick", "snare", "closed hat", "open hat", "ride", "rim", "tom", "crash")
# General MIDI percussion (and 22, 26 of electronic kits) folded to eight classes; other sounds are left out.
DRUM_NOTES = ((35, 36), (38, 40), (42, 44, 22), (46, 26), (51, 53, 59), (37, 39), (41, 43, 45, 47, 48, 50), (49, 52, 55, 57))
DRUM_CLASS = np.full(128, -1, np.int16)
for _index, _notes in enumerate(DRUM_NOTES):
    DRUM_CLASS[list(_notes)] = _index
# Index of the duration nearest to 0…16 steps.
NEAREST_DURATION = np.abs(np.arange(STEPS + 1)[:, None] - np.array(DURATIONS)).argmin(1)
TRIADS = np.stack([np.roll(np.isin(np.arange(12), (0, third, 7)), root) for third in (4, 3) for root in range(12)]) / np.sqrt(3)
BASS_WEIGHT = 0.15
LONGEST_NOTE = 16  # quarter notes: a note whose end was lost would otherwise colour every bar after it
MELODY_NOTES = 16
LEAD_NAMES = ("melod", "vocal", "lead", "voice", "sing")


class MidiReader:
    """Reads one song a file (see the copy step's reader interface)."""

    def __init__(self, features: MidiFeatures, root: Path, context: dict):
        self.features = features

    @staticmethod
    def files(sample: dict) -> list[str]:
        return [sample["path"]]

    def read(self, blobs: list[bytes], sample: dict) -> tuple[dict, dict]:
        """The fields of a song. Raises Refused where nothing in it can be used."""
        score = read_score(blobs[0])
        if not any(len(t.notes) for t in score.tracks):
            raise Refused("it has no notes")
        grid = bar_grid(score, self.features.max_bars)
        chroma, bass = bar_chroma(score, grid)
        chords = match_chords(chroma, bass)
        melody = melody_notes(score, grid, self.features.max_notes)
        hits = drum_hits(score, grid)
        if not len(melody) and not len(hits) and (chords == NO_CHORD).all():
            raise Refused(f"no note that can be used before bar {self.features.max_bars + 1}")
        share = chroma / np.maximum(chroma.sum(1, keepdims=True), 1e-9)
        tempo = grid.tempo.astype(np.float32)
        return {}, {"melody": melody, "chords": chords, "chroma": share.astype(np.float16), "hits": hits, "tempo": tempo}

    def meta(self) -> dict:
        """What the indices of the fields stand for."""
        return {"lowest_pitch": LOWEST, "pitches": PITCHES, "durations": DURATIONS, "chords": CHORDS, "drums": DRUMS, "steps": STEPS}


@dataclass(frozen=True)
class Grid:
    """Bars of a song: where each starts (ticks), how many steps it has, its tempo; `step`: ticks a sixteenth."""

    starts: np.ndarray
    steps: np.ndarray
    tempo: np.ndarray
    end: float
    step: float

    def locate(self, ticks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Bar, step in the bar and offset (in steps, −0.5 … 0.5) of the nearest grid point; and which ticks lie inside the bars."""
        # Half a step early: a beat that is played just before the bar line belongs to the bar that it opens.
        bar = np.searchsorted(self.starts, ticks + self.step / 2, "right") - 1
        inside = (bar >= 0) & (ticks < self.end)
        bar = np.clip(bar, 0, len(self.starts) - 1)
        exact = (ticks - self.starts[bar]) / self.step
        step = np.clip(np.round(exact), 0, self.steps[bar] - 1).astype(np.int64)
        return bar, step, np.clip(exact - step, -0.5, 0.5), inside


def bar_grid(score: Score, max_bars: int) -> Grid:
    """The bars up to the last note, at most `max_bars`. Nonsense meters and tempos count as 4/4 and 120."""
    quarter = score.quarter
    last = max(int(t.notes[-1, TICK]) for t in score.tracks if len(t.notes))
    end = max(score.end, last + quarter // 8 + 1)  # a last note just before a bar line opens one more bar
    changes = {0: (4.0 * quarter, STEPS)}
    for tick, beats, unit in score.meters.tolist():
        length, parts = 4.0 * quarter * beats / unit if unit > 0 else 0.0, 1
        if not quarter / 4 <= length <= 64 * quarter:
            length = 4.0 * quarter
        while length / parts > 4 * quarter:
            parts *= 2
        changes[max(tick, 0)] = (length / parts, int(np.ceil(length / parts / quarter * 4 - 1e-9)))
    marks = sorted(changes)
    starts: list[float] = []
    steps: list[int] = []
    for mark, until in zip(marks, [*marks[1:], max(end, 1)]):
        length, count = changes[mark]
        at = float(mark)
        while at < min(until, max(end, 1)) and len(starts) < max_bars:
            starts.append(at)
            steps.append(count)
            at += length
    stop = min(starts[-1] + steps[-1] * quarter / 4, max(end, 1) + 1)
    edges = np.array(starts)
    tempos = score.tempos[(score.tempos[:, 1] >= 10) & (score.tempos[:, 1] <= 1000)]
    if not len(tempos):
        tempos = np.array([[0.0, 120.0]])
    tempo = tempos[np.maximum(np.searchsorted(tempos[:, 0], edges, "right") - 1, 0), 1]
    return Grid(edges, np.array(steps), tempo, stop, quarter / 4)


def bar_chroma(score: Score, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Sounding time of each pitch class in each bar, (bars, 12), and the pitch class of its lowest note (−1: silence)."""
    notes = np.concatenate([t.notes for t in score.tracks if not t.drum] or [np.zeros((0, 4), np.int64)])
    bars = len(grid.starts)
    chroma, bass = np.zeros((bars, 12)), np.full(bars, -1)
    if not len(notes):
        return chroma, bass
    edges = np.append(grid.starts, grid.end)
    length = np.clip(notes[:, LENGTH], 1, LONGEST_NOTE * score.quarter)
    for pitch_class in range(12):
        mine = notes[:, PITCH] % 12 == pitch_class
        start = notes[mine, TICK]
        chroma[:, pitch_class] = np.diff(_elapsed(start, edges) - _elapsed(start + length[mine], edges))
    bar, _, _, inside = grid.locate(notes[:, TICK].astype(float))
    lowest = np.full(bars, 128)
    np.minimum.at(lowest, bar[inside], notes[inside, PITCH])
    bass = np.where(lowest < 128, lowest % 12, -1)
    return np.maximum(chroma, 0.0), bass


def _elapsed(times: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """At each edge, the time since each of `times`, summed over those that are past."""
    times = np.sort(times)
    sums = np.append(0, np.cumsum(times))
    past = np.searchsorted(times, edges, "right")
    return past * edges - sums[past]


def match_chords(chroma: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """The triad nearest to each bar's chroma (cosine), a root in the bass preferred; (bars,) int16.

    Template matching after Fujishima 1999, https://quod.lib.umich.edu/i/icmc/bbp2372.1999.446
    """
    norm = np.linalg.norm(chroma, axis=1)
    score = chroma @ TRIADS.T / np.maximum(norm, 1e-9)[:, None]
    known = np.flatnonzero(bass >= 0)
    score[known, bass[known]] += BASS_WEIGHT
    score[known, bass[known] + 12] += BASS_WEIGHT
    return np.where(norm > 0, score.argmax(1), NO_CHORD).astype(np.int16)


def melody_notes(score: Score, grid: Grid, max_notes: int) -> np.ndarray:
    """Skyline of the most melodic track, (notes, 3) int16.

    A note's duration is the time until the next one begins, at most 16 steps: so tokens say the rhythm, and a rest
    belongs to the note before it. The last note has its own length. Pitches outside the range move by octaves.
    """
    best, lines = 0.0, None
    for track in score.tracks:
        line = np.zeros((0, 4), np.int64) if track.drum or not len(track.notes) else skyline(track, grid)
        if len(line) and (value := _melodic(track, line, len(grid.starts))) > best:
            best, lines = value, line
    if lines is None:
        return np.zeros((0, 3), np.int16)
    lines = lines[: max_notes + 1]
    place = (np.cumsum(grid.steps) - grid.steps)[lines[:, 0]] + lines[:, 1]
    last = int(np.clip(lines[-1, 3], 1, STEPS))
    gap = np.clip(np.append(np.diff(place), last), 1, STEPS)
    pitch = lines[:, 2] - LOWEST
    pitch = np.where(pitch < 0, pitch % 12, np.where(pitch >= PITCHES, (pitch - PITCHES) % 12 + PITCHES - 12, pitch))
    return np.stack([pitch, NEAREST_DURATION[gap], lines[:, 1]], 1).astype(np.int16)[:max_notes]


def skyline(track: Track, grid: Grid) -> np.ndarray:
    """The highest note at each step: (notes, 4) of bar, step, pitch, length in steps (Uitdenbogerd and Zobel 1998)."""
    bar, step, _, inside = grid.locate(track.notes[:, TICK].astype(float))
    rows = np.stack([bar, step, track.notes[:, PITCH], np.round(track.notes[:, LENGTH] / grid.step).astype(np.int64)], 1)[inside]
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]
    first = np.ones(len(rows), bool)
    first[1:] = (np.diff(rows[:, :2], axis=0) != 0).any(1)
    return rows[first]


def _melodic(track: Track, line: np.ndarray, bars: int) -> float:
    """How like a melody a track is: one note at a time, high, present in many bars, varied; or called one."""
    single = len(line) / len(track.notes)
    height = np.clip((line[:, 2].mean() - 48) / 36, 0, 1)
    present = len(np.unique(line[:, 0])) / bars
    varied = min(len(np.unique(line[:, 2])), 8) / 8
    named = any(word in track.name.lower() for word in LEAD_NAMES)
    return (single + height + present + varied + named + 0.1) * (1 if len(line) >= MELODY_NOTES else 0.1)


def drum_hits(score: Score, grid: Grid) -> np.ndarray:
    """Hits on the grid, (hits, 4) int16; of two on one step and drum the louder stays."""
    notes = np.concatenate([t.notes for t in score.tracks if t.drum] or [np.zeros((0, 4), np.int64)])
    drum = DRUM_CLASS[np.clip(notes[:, PITCH], 0, 127)]
    bar, step, offset, inside = grid.locate(notes[:, TICK].astype(float))
    rows = np.stack([bar * STEPS + step, drum, notes[:, VELOCITY], np.round(offset * OFFSET_UNIT)], 1)[inside & (drum >= 0)]
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]
    first = np.ones(len(rows), bool)
    first[1:] = (np.diff(rows[:, :2], axis=0) != 0).any(1)
    return rows[first].astype(np.int16)
