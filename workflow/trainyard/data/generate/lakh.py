"""Songs laid out as the Lakh MIDI data set: lmd_full/<first hex digit>/<md5 of the file>.mid.

The data set: https://colinraffel.com/projects/lmd. A song has eight-bar sections AABA: a functional progression,
a motif that follows the chords and drums of one genre with its own swing, accents and late snare. Not made so that
a network wins: the sections repeat, as songs do, and every velocity and onset carries noise.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
# Scale degrees of each harmonic function, and which function may follow; repeats raise the odds.
DEGREES = {"tonic": (0, 0, 5, 2), "subdominant": (3, 3, 1, 5), "dominant": (4, 4, 4, 6)}
FOLLOWS = {
    "tonic": ("tonic", "subdominant", "subdominant", "dominant"),
    "subdominant": ("dominant", "dominant", "tonic", "subdominant"),
    "dominant": ("tonic", "tonic", "tonic", "subdominant"),
}
RHYTHMS = (2, 2, 4, 4, 3, 6, 8)
STEPS = 16
KICK, SNARE, CLOSED, OPEN, RIDE, RIM = 36, 38, 42, 46, 51, 37


@dataclass(frozen=True)
class Genre:
    """Drum steps of a bar by note; swing in steps; how late the snare is (ms); strength of accents; range of tempos."""

    pattern: dict[int, tuple[int, ...]]
    swing: float
    lag: float
    accent: float
    tempo: tuple[float, float]
    swung: tuple[int, ...] = (1, 3)  # which steps of a beat the swing delays


EIGHTHS, ALL = tuple(range(0, STEPS, 2)), tuple(range(STEPS))
GENRES = (
    Genre({KICK: (0, 8), SNARE: (4, 12), CLOSED: EIGHTHS}, 0.0, 4, 0.25, (105, 150)),
    Genre({KICK: (0, 3, 10), SNARE: (4, 7, 12), CLOSED: ALL, OPEN: (14,)}, 0.15, -6, 0.45, (90, 115)),
    Genre({KICK: (0,), CLOSED: (4, 12), RIDE: (0, 4, 6, 8, 12, 14), RIM: (12,)}, 0.62, 8, 0.15, (110, 190), (1, 2, 3)),
    Genre({KICK: (0, 6, 8, 14), CLOSED: EIGHTHS, RIM: (0, 3, 6, 10, 13)}, 0.0, -2, 0.1, (110, 140)),
    Genre({KICK: (0, 7, 10), SNARE: (4, 12), CLOSED: EIGHTHS, OPEN: (6,)}, 0.35, 18, 0.3, (78, 98), (1, 2, 3)),
)


@dataclass(frozen=True)
class Song:
    """Notes (start s, end s, pitch, velocity) of the three tracks, and each bar's chord: root 0–11, 12 more for minor triads."""

    tempo: float
    melody: list[tuple[float, float, int, int]]
    pad: list[tuple[float, float, int, int]]
    drums: list[tuple[float, float, int, int]]
    chords: list[int]


def generate(folder: Path, seed: int = 0, songs: int = 240, bars: int = 32, broken: int = 2) -> None:
    """Write `songs` songs of `bars` bars below `folder`; `broken` more files are cut short, as some of the real ones are."""
    for index in range(songs + broken):
        data = encode(compose(np.random.default_rng([seed, index]), bars))
        if index >= songs:
            data = data[: len(data) * 2 // 3]
        name = hashlib.md5(data, usedforsecurity=False).hexdigest()
        path = Path(folder) / "lmd_full" / name[0] / f"{name}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def compose(rng: np.random.Generator, bars: int) -> Song:
    """A song of one key, genre and tempo."""
    tonic, scale = int(rng.integers(12)), MAJOR if rng.random() < 0.6 else MINOR
    genre = GENRES[rng.integers(len(GENRES))]
    tempo = float(rng.uniform(*genre.tempo))
    step = 15 / tempo
    sections = {name: (_progression(rng), _motif(rng), _motif(rng)) for name in "AB"}
    melody, pad, chords = [], [], []
    for bar in range(bars):
        progression, motif, ending = sections["AABA"[bar // 8 % 4]]
        degree = progression[bar % 8]
        root, third, fifth = ((tonic + scale[(degree + k) % 7]) % 12 for k in (0, 2, 4))
        chords.append(root + 12 * ((third - root) % 12 == 3))
        start = bar * STEPS * step
        pad += [(start, start + STEPS * step, pitch, 60) for pitch in (36 + root, 48 + third, 48 + fifth)]
        for length, contour in zip(*(ending if bar % 4 == 3 else motif)):
            place = degree + contour + (int(rng.choice((-1, 1))) if rng.random() < 0.06 else 0)
            pitch = 60 + tonic + 12 * (place // 7) + scale[place % 7]
            melody.append((start, start + 0.95 * length * step, pitch, int(np.clip(rng.normal(84, 8), 40, 120))))
            start += length * step
    return Song(tempo, melody, pad, _drums(rng, genre, bars, step), chords)


def _progression(rng: np.random.Generator) -> list[int]:
    """Scale degrees of eight bars, with a cadence at the end."""
    function, out = "tonic", [0]
    for _ in range(7):
        function = str(rng.choice(FOLLOWS[function]))
        out.append(int(rng.choice(DEGREES[function])))
    out[6], out[7] = 4, 0 if rng.random() < 0.7 else 4
    return out


def _motif(rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """A bar's rhythm in steps, and scale steps above the chord's root."""
    lengths: list[int] = []
    while left := STEPS - sum(lengths):
        lengths.append(int(rng.choice([r for r in RHYTHMS if r <= left] or [left])))
    contour = np.clip(np.cumsum(rng.choice((-2, -1, -1, 0, 1, 1, 2), len(lengths))), -4, 5)
    return lengths, contour.tolist()


def _drums(rng: np.random.Generator, genre: Genre, bars: int, step: float) -> list[tuple[float, float, int, int]]:
    """The genre's pattern with its timing and accents, a hit in 16 left out, onsets ± 3 ms, velocities ± 5."""
    swing, late = genre.swing * rng.uniform(0.8, 1.2) * step, genre.lag * rng.uniform(0.8, 1.1) / 1000
    hits = []
    for bar in range(bars):
        for note, steps in genre.pattern.items():
            for place in steps:
                if rng.random() < 0.06:
                    continue
                start = (bar * STEPS + place) * step + rng.normal(0, 0.003)
                start += (swing if place % 4 in genre.swung else 0) + (late if note in (SNARE, RIM) else 0)
                beat = 1 if place % 8 == 4 else 0.3 if place % 4 == 0 else -0.6
                loud = 82 + 60 * genre.accent * beat + (14 if note in (KICK, SNARE) else -6)
                loud -= 30 if note == SNARE and place == 7 else 0  # a ghost note
                hits.append((max(0.0, start), max(0.0, start) + 0.05, note, int(np.clip(rng.normal(loud, 5), 8, 127))))
    return hits


def encode(song: Song) -> bytes:
    """The song as a type 1 MIDI file, written by pretty_midi."""
    import pretty_midi

    midi = pretty_midi.PrettyMIDI(resolution=480, initial_tempo=song.tempo)
    midi.time_signature_changes.append(pretty_midi.TimeSignature(4, 4, 0))
    for program, drum, name, notes in ((73, False, "", song.melody), (48, False, "Strings", song.pad), (0, True, "Drums", song.drums)):
        track = pretty_midi.Instrument(program, drum, name)
        track.notes = [pretty_midi.Note(velocity, pitch, start, end) for start, end, pitch, velocity in notes]
        midi.instruments.append(track)
    out = io.BytesIO()
    midi.write(out)
    return out.getvalue()
