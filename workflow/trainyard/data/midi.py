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

from pathlib import Path

import numpy as np

from trainyard.config.features import MidiFeatures
from trainyard.data.midi_file import LENGTH, PITCH, TICK, VELOCITY, Score, read_score
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
PITCH_CLASS = np.arange(128) % 12
# Pitches of a melody; those outside of its range are moved by octaves.
PITCH_INDEX = np.array(
    [p % 12 if p < 0 else (p - PITCHES) % 12 + PITCHES - 12 if p >= PITCHES else p for p in range(-LOWEST, 128 - LOWEST)]
)
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
        if not len(score.track):
            raise Refused("it has no notes")
        grid = bar_grid(score, self.features.max_bars)
        places = grid.locate(score.notes[TICK])
        drum = np.array([t.drum for t in score.tracks]).take(score.track)
        chroma, bass = bar_chroma(score, grid, places, ~drum)
        chords = match_chords(chroma, bass)
        melody = melody_notes(score, grid, places, ~drum, self.features.max_notes)
        hits = drum_hits(score, places, drum)
        if not len(melody) and not len(hits) and (chords == NO_CHORD).all():
            raise Refused(f"no note that can be used before bar {self.features.max_bars + 1}")
        share = chroma / np.maximum(chroma.sum(1, keepdims=True), 1e-9)
        tempo = grid.tempo.astype(np.float32)
        return {}, {"melody": melody, "chords": chords, "chroma": share.astype(np.float16), "hits": hits, "tempo": tempo}

    def meta(self) -> dict:
        """What the indices of the fields stand for."""
        return {"lowest_pitch": LOWEST, "pitches": PITCHES, "durations": DURATIONS, "chords": CHORDS, "drums": DRUMS, "steps": STEPS}


def bar_chroma(score: Score, grid: Grid, places: Places, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sounding time of each pitch class in each bar, (bars, 12), and the pitch class of its lowest note (−1: silence).

    `among` (n,) bool: the notes that count.
    """
    bars = len(grid.starts)
    if not among.any():
        return np.zeros((bars, 12)), np.full(bars, -1)
    start, length, pitch, bar, inside = score.notes[TICK], score.notes[LENGTH], score.notes[PITCH], places.bar, places.inside
    if not among.all():
        start, length, pitch, bar, inside = (row[among] for row in (start, length, pitch, bar, inside))
    stop = start + np.minimum(np.maximum(length, 1), LONGEST_NOTE * score.quarter)
    edges = np.append(grid.starts, grid.end)
    # The time since each start minus the time since each stop, summed over those that are past, at each edge: from how many
    # and which ticks there are in each bar.
    start, stop = np.minimum(start, grid.end), np.minimum(stop, grid.end)
    tone = PITCH_CLASS.take(pitch)
    begun, ended = grid.bars_at(start) * 12 + tone, grid.bars_at(stop) * 12 + tone
    count = np.bincount(begun, minlength=12 * bars) - np.bincount(ended, minlength=12 * bars)
    total = np.bincount(begun, start, 12 * bars) - np.bincount(ended, stop, 12 * bars)
    past = edges[1:, None] * count.reshape(bars, 12).cumsum(0) - total.reshape(bars, 12).cumsum(0)
    past[1:] -= past[:-1].copy()
    lowest = np.full(bars, 128)
    np.minimum.at(lowest, bar, np.where(inside, pitch, 128))
    return np.maximum(past, 0.0, out=past), np.where(lowest < 128, lowest % 12, -1)


def match_chords(chroma: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """The triad nearest to each bar's chroma (cosine), a root in the bass preferred; (bars,) int16.

    Template matching after Fujishima 1999, https://quod.lib.umich.edu/i/icmc/bbp2372.1999.446
    """
    norm = np.sqrt(np.einsum("bc,bc->b", chroma, chroma))
    score = chroma @ TRIADS.T / np.maximum(norm, 1e-9)[:, None]
    known = np.flatnonzero(bass >= 0)
    score[known, bass[known]] += BASS_WEIGHT
    score[known, bass[known] + 12] += BASS_WEIGHT
    return np.where(norm > 0, score.argmax(1), NO_CHORD).astype(np.int16)


def melody_notes(score: Score, grid: Grid, places: Places, among: np.ndarray, max_notes: int) -> np.ndarray:
    """Skyline of the most melodic track, (notes, 3) int16. `among` (n,) bool: the notes that count.

    A note's duration is the time until the next one begins, at most 16 steps: so tokens say the rhythm, and a rest
    belongs to the note before it. The last note has its own length. Pitches outside the range move by octaves.
    """
    top = skyline(score, places, among)
    if not len(top):
        return np.zeros((0, 3), np.int16)
    best = int(melodic(score, places, top, len(grid.starts)).argmax())
    line = top[score.track.take(top) == best][: max_notes + 1]
    step = places.step.take(line)
    place = (grid.steps.cumsum() - grid.steps).take(places.bar.take(line)) + step
    gap = np.empty(len(line), np.int64)
    np.subtract(place[1:], place[:-1], out=gap[:-1])
    gap[-1] = round(score.notes[LENGTH, line[-1]] / grid.step)
    out = np.empty((len(line), 3), np.int16)
    out[:, 0] = PITCH_INDEX.take(score.notes[PITCH].take(line))
    out[:, 1] = NEAREST_DURATION.take(gap.clip(1, STEPS))
    out[:, 2] = step
    return out[:max_notes]


def skyline(score: Score, places: Places, among: np.ndarray) -> np.ndarray:
    """The highest note of each track at each step (Uitdenbogerd and Zobel 1998), as indices in order; the first of equals."""
    some = np.flatnonzero(among & places.inside)
    if not len(some):
        return some
    # Notes lie track after track in the order of their starts, so those of one step lie together.
    cell = ((score.track << 40) + (places.bar << 8) + places.step).take(some)
    first = np.append(0, np.flatnonzero(cell[1:] != cell[:-1]) + 1)
    value = (score.notes[PITCH].take(some) << 32) - some
    return -np.maximum.reduceat(value, first) & 0xFFFFFFFF


def melodic(score: Score, places: Places, top: np.ndarray, bars: int) -> np.ndarray:
    """How like a melody each track is, (tracks,): one note at a time, high, present in many bars, varied; or called one."""
    tracks = len(score.tracks)
    track, bar, pitch = score.track.take(top), places.bar.take(top), score.notes[PITCH].take(top)
    count = np.bincount(track, minlength=tracks)
    single = count / np.bincount(score.track, minlength=tracks)
    height = ((np.bincount(track, pitch, tracks) / np.maximum(count, 1) - 48) / 36).clip(0, 1)
    heard = np.bincount(track * 128 + pitch, minlength=tracks * 128).reshape(tracks, 128)
    played = np.bincount(track * bars + bar, minlength=tracks * bars).reshape(tracks, bars)
    present, varied = np.count_nonzero(played, 1) / bars, np.minimum(np.count_nonzero(heard, 1), 8) / 8
    named = np.array([any(word in t.name.lower() for word in LEAD_NAMES) for t in score.tracks])
    value = (single + height + present + varied + named + 0.1) * np.where(count >= MELODY_NOTES, 1, 0.1)
    return np.where(count > 0, value, 0.0)


def drum_hits(score: Score, places: Places, among: np.ndarray) -> np.ndarray:
    """Hits on the grid, (hits, 4) int16; of two on one step and drum the louder stays. `among` (n,) bool: notes of drums."""
    some = np.flatnonzero(among & places.inside) if among.any() else np.zeros(0, np.int64)
    if not len(some):
        return np.zeros((0, 4), np.int16)
    drum = DRUM_CLASS[np.minimum(score.notes[PITCH, some], 127)]
    some, drum = some[drum >= 0], drum[drum >= 0].astype(np.int64)
    rows = np.stack(
        [
            places.bar[some] * STEPS + places.step[some],
            drum,
            score.notes[VELOCITY, some],
            np.rint(np.clip(places.exact[some] - places.step[some], -0.5, 0.5) * OFFSET_UNIT).astype(np.int64),
        ]
    )
    rows = rows[:, np.lexsort((-rows[2], rows[1], rows[0]))]
    first = np.diff(rows[0] * len(DRUMS) + rows[1], prepend=-1) != 0
    return rows[:, first].T.astype(np.int16)
