"""Sung phrases in M4Singer's own layout (https://github.com/M4Singer/M4Singer): `Alto-1#Song/0000.wav`, one meta.json.

No recording is copied: voices are sums of harmonics under three formants. An emotion shows in how a phrase moves
(length of notes, vibrato, glide, leaps, jitter) and a little in its brightness; which singer and how loud say
nothing of it. A voice grows brighter as it grows louder, as real ones do (https://doi.org/10.1121/1.2149839), and
that is the only trace loudness leaves once the gain of every frame is taken away.
With BRIGHTER at 0 dynamics_engine learns nothing (4.97 dB beside 4.91 for the mean contour).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainyard.data.files import stable_seed, write_text

VOICES = {"Soprano": (60, 65), "Alto": (55, 60), "Tenor": (50, 55), "Bass": (43, 49)}
SONGS = ("Morning", "River", "Lantern", "Harbour", "Orchard", "Snowfall", "Station", "Window", "Bridge", "Garden")
HARMONICS = 24
CONTOUR_KNOTS = 5
CONTOUR_DB = 22.0
BRIGHTER = 0.35  # dB an octave of tilt for each dB of loudness


@dataclass(frozen=True)
class Style:
    """How an emotion is sung: seconds a note, vibrato in Hz and cents, glide and leaps in semitones, tilt in dB an octave."""

    note: float
    vibrato_rate: float
    vibrato_depth: float
    glide: float
    tilt: float
    leap: int
    jitter: float


STYLES = {
    "happy": Style(0.26, 6.2, 40, 2.0, -9, 4, 0.1),
    "sad": Style(0.55, 4.6, 90, -3.0, -12, 2, 0.1),
    "angry": Style(0.24, 6.8, 90, -2.0, -7, 3, 0.8),
    "calm": Style(0.5, 5.4, 20, 0.3, -11, 2, 0.05),
}


@dataclass(frozen=True)
class Singer:
    """A voice: its range, formants in Hz, brightness, vibrato and pace."""

    name: str
    lowest: float
    formants: np.ndarray
    tilt: float
    vibrato: float
    pace: float


def generate(folder: Path, seed: int = 0, singers: int = 80, phrases: int = 3, seconds: float = 2.0, sample_rate: int = 16000) -> None:
    """Write `phrases` clips of each of the four emotions for each of `singers`: one song an emotion and singer."""
    import soundfile

    items = []
    for index in range(singers):
        singer = _singer(index, np.random.default_rng(stable_seed("singer", seed, index)))
        order = np.random.default_rng(stable_seed("songs", seed, index)).permutation(len(SONGS))
        for emotion, song in zip(STYLES, order):
            album = f"{singer.name}#{SONGS[song]}"
            (folder / album).mkdir(parents=True, exist_ok=True)
            for take in range(phrases):
                rng = np.random.default_rng(stable_seed("phrase", seed, index, emotion, take))
                wave, notes, lengths = _phrase(STYLES[emotion], singer, rng, seconds, sample_rate)
                wave *= rng.uniform(0.15, 0.9) / np.abs(wave).max()
                soundfile.write(folder / album / f"{take:04d}.wav", wave, sample_rate, subtype="PCM_16", format="WAV")
                items.append(
                    {"item_name": f"{album}#{take:04d}", "txt": "la" * len(notes), "notes": notes, "notes_dur": lengths, "emotion": emotion}
                )
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)
    write_text(folder / "meta.json", f"[\n{lines}\n]\n")


def _singer(index: int, rng: np.random.Generator) -> Singer:
    voice = list(VOICES)[index % len(VOICES)]
    formants = np.array([rng.uniform(450, 800), rng.uniform(1000, 1700), rng.uniform(2400, 3200)])
    name = f"{voice}-{index // len(VOICES) + 1}"
    return Singer(name, rng.uniform(*VOICES[voice]), formants, rng.normal(0, 1.2), rng.normal(0, 0.3), rng.uniform(0.9, 1.1))


def _phrase(style: Style, singer: Singer, rng: np.random.Generator, seconds: float, rate: int) -> tuple[np.ndarray, list[int], list[float]]:
    """A clip (samples,) float64, its notes as MIDI numbers and their lengths in seconds."""
    n = int(seconds * rate)
    pitch, gate, notes, lengths = _melody(style, singer, rng, n, rate)
    time = np.arange(n) / rate
    depth, speed = style.vibrato_depth * np.exp(rng.normal(0, 0.35)), style.vibrato_rate * np.exp(rng.normal(0, 0.06)) + singer.vibrato
    pitch += depth / 100 * np.sin(2 * np.pi * speed * time + rng.uniform(0, 2 * np.pi))
    knots = np.arange(0, seconds + 0.04, 0.04)
    pitch += np.interp(time, knots, rng.normal(0, style.jitter * 0.5, len(knots)))
    loudness = np.interp(time, np.linspace(0, seconds, CONTOUR_KNOTS), rng.uniform(-CONTOUR_DB, 0, CONTOUR_KNOTS))
    tilt = style.tilt + singer.tilt + rng.normal(0, 1.5) + (loudness + CONTOUR_DB / 2) * BRIGHTER
    voice = _voice(440 * 2 ** ((pitch - 69) / 12), tilt, singer.formants, rate)
    # Breath as loud as the voice it belongs to: a steady noise would betray the loudness.
    breath = 0.004 * rng.standard_normal(n)
    return (voice + breath) * gate * 10 ** (loudness / 20), notes, lengths


def _melody(style: Style, singer: Singer, rng: np.random.Generator, n: int, rate: int):
    """Pitch (n,) in semitones and gate (n,) of a random walk of notes, and the notes."""
    pitch, gate = np.zeros(n), np.ones(n)
    notes: list[int] = []
    lengths: list[float] = []
    at, note = 0, singer.lowest + rng.integers(0, 8)
    while at < n:
        end = min(n, at + max(int(style.note * singer.pace * np.exp(rng.normal(0, 0.25)) * rate), rate // 10))
        place = np.linspace(0, 1, end - at)
        pitch[at:end] = note + np.exp(rng.normal(0, 0.3)) * style.glide * np.maximum(0, place - 0.4)
        rise, fall = min(int(0.015 * rate), end - at), min(int(0.025 * rate), end - at)
        gate[at : at + rise] *= np.linspace(0, 1, rise)
        gate[end - fall : end] *= np.linspace(1, 0.1, fall)
        notes.append(round(note))
        lengths.append(round((end - at) / rate, 4))
        note = np.clip(note + rng.integers(-style.leap, style.leap + 1), singer.lowest - 5, singer.lowest + 14)
        at = end
    return pitch, gate, notes, lengths


def _voice(frequency: np.ndarray, tilt: np.ndarray, formants: np.ndarray, rate: int) -> np.ndarray:
    """Harmonics below half the rate; sin(kp) by the recurrence 2 cos(p) sin((k-1)p) - sin((k-2)p), so one sine is computed."""
    phase = 2 * np.pi * np.cumsum(frequency) / rate
    before, now, twice = np.zeros_like(phase), np.sin(phase), 2 * np.cos(phase)
    middle = float(frequency.mean())
    wave = np.zeros_like(phase)
    per_octave = (tilt * (np.log(10) / 20)).astype(np.float32)
    for k in range(1, int(min(HARMONICS, rate / 2 / frequency.max())) + 1):
        envelope = 0.15 + np.exp(-(((middle * k - formants) / (120 + formants * 0.08)) ** 2)).sum()
        wave += envelope * np.exp(per_octave * np.float32(np.log2(k))) * now
        before, now = now, twice * now - before
    return wave
