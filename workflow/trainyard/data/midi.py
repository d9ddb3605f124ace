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

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainyard.config.features import MidiFeatures
from trainyard.data.midi_file import LENGTH, PITCH, TICK, Score, read_score
from trainyard.data.midi_grid import STEPS, Grid, Places, bar_grid
from trainyard.data.refused import Refused

LOWEST, PITCHES = 36, 61
DURATIONS = (1, 2, 3, 4, 6, 8, 12, 16)
NO_CHORD = 24
OFFSET_UNIT = 1000
NAMES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
CHORDS = (*NAMES, *(f"{n}m" for n in NAMES), "–")
DRUMS = ("kick", "snare", "closed hat", "open hat", "ride", "rim", "tom", "crash")
# General MIDI percussion (and 22, 26 of electronic kits) folded to eight classes; other sounds are left out.
DRUM_NOTES = ((35, 36), (38, 40), (42, 44, 22), (46, 26), (51, 53, 59), (37, 39), (41, 43, 45, 47, 48, 50), (49, 52, 55, 57))
PITCH_CLASS = np.append(np.arange(128) % 12, -1)  # the last: no note
# Pitches of a melody; those outside of its range are moved by octaves.
PITCH_INDEX = np.array(
    [p % 12 if p < 0 else (p - PITCHES) % 12 + PITCHES - 12 if p >= PITCHES else p for p in range(-LOWEST, 128 - LOWEST)]
)
DRUM_CLASS = np.full(128, -1, np.int16)
for _index, _notes in enumerate(DRUM_NOTES):
    DRUM_CLASS[list(_notes)] = _index
# Index of the duration nearest to 0…16 steps.
NEAREST_DURATION = np.abs(np.arange(STEPS + 1)[:, None] - np.array(DURATIONS)).argmin(1)
SUMS = np.stack([np.ones(128, np.int64), np.arange(128)], 1)  # of counts by pitch: how many, and their pitches' sum
TRIADS = np.stack([np.roll(np.isin(np.arange(12), (0, third, 7)), root) for third in (4, 3) for root in range(12)]) / np.sqrt(3)
# What is added to the triads' likeness by the pitch class of the lowest note; by the last row where there is none.
BASS = 0.15 * np.tile(np.eye(13, 12), 2)
LONGEST_NOTE = 16  # quarter notes: a note whose end was lost would otherwise colour every bar after it
MELODY_NOTES = 16
LEAD_NAME = re.compile("melod|vocal|lead|voice|sing")


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
        if not len(score.track):
            raise Refused("it has no notes")
        grid = bar_grid(score, self.features.max_bars)
        pitched, drums = by_kind(score, grid)
        chroma, bass = bar_chroma(score, grid, pitched)
        chords = match_chords(chroma, bass)
        melody = melody_notes(score, grid, pitched, self.features.max_notes)
        hits = drum_hits(grid, drums)
        if not len(melody) and not len(hits) and (chords == NO_CHORD).all():
            raise Refused(f"no note that can be used before bar {self.features.max_bars + 1}")
        share = chroma / np.maximum(chroma.sum(1, keepdims=True), 1e-9)
        return {}, {"melody": melody, "chords": chords, "chroma": share.astype(np.float16), "hits": hits, "tempo": grid.tempo}

    def meta(self) -> dict:
        """What the indices of the fields stand for."""
        return {"lowest_pitch": LOWEST, "pitches": PITCHES, "durations": DURATIONS, "chords": CHORDS, "drums": DRUMS, "steps": STEPS}


@dataclass(slots=True)
class Notes:
    """Some of a score's notes, in its order: `rows` (4, n) and `track` (n,) as in Score, and their places on the grid."""

    rows: np.ndarray
    track: np.ndarray
    at: Places

    def __len__(self) -> int:
        return len(self.track)


def by_kind(score: Score, grid: Grid) -> tuple[Notes, Notes | None]:
    """Notes with a pitch and those of drums (None: no track has any), all within the bars of the grid."""
    drum = [t.drum for t in score.tracks]
    if not any(drum) and not grid.cut:
        return Notes(score.notes, score.track, grid.locate(score.notes[TICK])), None
    inside, drums = score.notes[TICK] < grid.end, np.array(drum).take(score.track)
    pitched, hit = (_some(score, grid, (inside & mask).nonzero()[0]) for mask in (~drums, drums))
    return pitched, hit


def _some(score: Score, grid: Grid, index: np.ndarray) -> Notes:
    rows = score.notes.take(index, 1)
    return Notes(rows, score.track.take(index), grid.locate(rows[TICK]))


def bar_chroma(score: Score, grid: Grid, notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Sounding time of each pitch class in each bar, (bars, 12), and the pitch class of its lowest note (−1: silence)."""
    bars = len(grid.steps)
    start, length, pitch, _ = notes.rows
    stop = start + np.minimum(length, LONGEST_NOTE * score.quarter)
    if grid.cut:
        stop = np.minimum(stop, grid.end)
    bar = grid.bars_at(start)
    cell = bar * 12
    cell += PITCH_CLASS.take(pitch)
    line = grid.edges[1:].take(bar)
    time = np.bincount(cell, np.minimum(stop, line) - start, 12 * bars)
    # Most notes end in the bar that they begin in; the rest of the others is added bar by bar.
    over = (stop > line).nonzero()[0]
    while len(over):
        stop, start, cell = stop.take(over), line.take(over), cell.take(over) + 12
        line = grid.edges[1:].take(cell // 12)
        time += np.bincount(cell, np.minimum(stop, line) - start, 12 * bars)
        over = (stop > line).nonzero()[0]
    lowest = np.full(bars, 128)
    np.minimum.at(lowest, notes.at.bar, pitch)
    return time.reshape(bars, 12), PITCH_CLASS.take(lowest)


def match_chords(chroma: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """The triad nearest to each bar's chroma (cosine), a root in the bass preferred; (bars,) int16.

    Template matching after Fujishima 1999, https://quod.lib.umich.edu/i/icmc/bbp2372.1999.446
    """
    norm = np.sqrt(np.vecdot(chroma, chroma))
    score = chroma @ TRIADS.T
    score /= np.maximum(norm, 1e-9)[:, None]
    score += BASS.take(bass, 0)
    chords = score.argmax(1).astype(np.int16)
    chords[norm == 0] = NO_CHORD
    return chords


def melody_notes(score: Score, grid: Grid, notes: Notes, max_notes: int) -> np.ndarray:
    """Skyline of the most melodic track, (notes, 3) int16.

    A note's duration is the time until the next one begins, at most 16 steps: so tokens say the rhythm, and a rest
    belongs to the note before it. The last note has its own length. Pitches outside the range move by octaves.
    """
    if not len(notes):
        return np.zeros((0, 3), np.int16)
    top = skyline(notes)
    track, bar, pitch = notes.track, notes.at.bar, notes.rows[PITCH]
    if len(top) < len(notes):
        track, bar, pitch = (column.take(top) for column in (track, bar, pitch))
    begin, end = most_melodic(score, track, bar, pitch, len(grid.steps))
    line = top[begin : min(end, begin + max_notes + 1)]
    count = notes.at.count.take(line)
    gap = np.empty(len(line), np.int64)
    np.subtract(count[1:], count[:-1], out=gap[:-1])
    gap[-1] = round(float(notes.rows[LENGTH, line[-1]]) / grid.step)
    out = np.empty((len(line), 3), np.int16)
    out[:, 0] = PITCH_INDEX.take(pitch[begin : begin + len(line)])
    out[:, 1] = NEAREST_DURATION.take(gap, mode="clip")
    out[:, 2] = notes.at.step.take(line)
    return out[:max_notes]


def skyline(notes: Notes) -> np.ndarray:
    """The highest note of each track at each step (Uitdenbogerd and Zobel 1998), as indices in order; the first of equals."""
    index = np.arange(len(notes))
    # Notes lie track after track in the order of their starts, so those of one step lie together.
    count, track = notes.at.count, notes.track
    new = count[1:] != count[:-1]
    if np.count_nonzero(new) == len(new):
        return index
    new |= track[1:] != track[:-1]
    first = np.append(0, new.nonzero()[0] + 1)
    return -np.maximum.reduceat((notes.rows[PITCH] << 32) - index, first) & 0xFFFFFFFF


def most_melodic(score: Score, track: np.ndarray, bar: np.ndarray, pitch: np.ndarray, bars: int) -> tuple[int, int]:
    """Where the track most like a melody begins and ends: one note at a time, high, present in many bars, varied; or called one.

    Track, bar and pitch are those of the skyline's notes, (n,) each.
    """
    tracks = len(score.tracks)
    heard = np.bincount(track * 128 + pitch, minlength=tracks * 128).reshape(tracks, 128)
    opens = bar[1:] != bar[:-1]  # a track's notes lie in order: each other bar is a new one
    counts, pitches = heard.dot(SUMS).T.tolist()
    total = counts if len(track) == len(score.track) else np.bincount(score.track, minlength=tracks).tolist()
    best, begin, end, first = 0.0, 0, 0, 0
    # A few numbers a track: Python's own are faster than arrays of them.
    for index, about in enumerate(score.tracks):
        count = counts[index]
        if not count:
            continue
        last = first + count
        height = min(max((pitches[index] / count - 48) / 36, 0.0), 1.0)
        bars_played = 1 + np.count_nonzero(opens[first : last - 1])
        different = int(np.count_nonzero(heard[index]))
        named = LEAD_NAME.search(about.name.lower()) is not None
        value = count / total[index] + height + bars_played / bars + min(different, 8) / 8 + named + 0.1
        if count < MELODY_NOTES:
            value *= 0.1
        if value > best:
            best, begin, end = value, first, last
        first = last
    return begin, end


def drum_hits(grid: Grid, notes: Notes | None) -> np.ndarray:
    """Hits on the grid, (hits, 4) int16; of two on one step and drum the louder stays."""
    if notes is None or not len(notes):
        return np.zeros((0, 4), np.int16)
    start, _, pitch, velocity = notes.rows
    drum = DRUM_CLASS[np.minimum(pitch, 127)].astype(np.int64)
    offset = grid.exact(start, notes.at.bar) - notes.at.step
    offset = np.rint(np.clip(offset, -0.5, 0.5) * OFFSET_UNIT).astype(np.int64)
    rows = np.stack([notes.at.bar * STEPS + notes.at.step, drum, velocity, offset]).compress(drum >= 0, 1)
    rows = rows[:, np.lexsort((-rows[2], rows[1], rows[0]))]
    first = np.diff(rows[0] * len(DRUMS) + rows[1], prepend=-1) != 0
    return rows[:, first].T.astype(np.int16)
