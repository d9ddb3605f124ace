"""Short piano performances as WAV and MIDI, with seven scores each, in the layout of CrescendAI: one JSONL of annotations.

What a score is heard by differs on purpose. Timing is an onset scatter of 2 to 24 ms, below a frame of the
spectrogram: only the MIDI file tells. Tone (brightness) and tuning (beating of two strings) belong to the
instrument: no MIDI message carries them. The others are in both. So a model that reads both can know more, as its
owners expect of their fusion experiment. Raters differ by a spread of 0.05.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainyard.data.files import stable_seed, write_text

DIMENSIONS = ("timing", "articulation", "dynamics", "pedal", "tempo", "tone", "tuning")
NOTES = 32
HARMONICS = 6
SCALE = np.array([0, 2, 4, 5, 7, 9, 11])
RATERS = 0.05
HABIT = 0.3


@dataclass(frozen=True)
class Performance:
    """Notes by onset: pitch, onset and seconds held, velocity, and whether the pedal is down; tilt and detune of the piano."""

    pitch: np.ndarray
    onset: np.ndarray
    held: np.ndarray
    velocity: np.ndarray
    pedal: np.ndarray
    tilt: float
    detune: float


def generate(folder: Path, seed: int = 0, performers: int = 100, pieces: int = 9, seconds: float = 4.0, sample_rate: int = 8000) -> None:
    """Write `pieces` performances of each of `performers`: audio/*.wav, midi/*.mid, annotations/performances.jsonl."""
    import soundfile

    for name in ("audio", "midi", "annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for performer in range(performers):
        # A performer has habits, which is why no performer may be in two splits.
        habit = np.random.default_rng(stable_seed("performer", seed, performer)).uniform(0, 1, len(DIMENSIONS))
        for piece in range(pieces):
            rng = np.random.default_rng(stable_seed("performance", seed, performer, piece))
            skill = _skill(habit, rng)
            played = _perform(skill, rng)
            name = f"performer{performer + 1:03d}_piece{piece + 1:02d}"
            wave = _render(played, rng, seconds, sample_rate)
            soundfile.write(folder / "audio" / f"{name}.wav", wave, sample_rate, subtype="PCM_16", format="WAV")
            _write_midi(played, folder / "midi" / f"{name}.mid")
            scores = np.clip(skill + rng.normal(0, RATERS, len(DIMENSIONS)), 0, 1)
            row = {
                "audio_path": f"audio/{name}.wav",
                "midi_path": f"midi/{name}.mid",
                "performer": f"performer{performer + 1:03d}",
                "scores": {d: round(float(s), 4) for d, s in zip(DIMENSIONS, scores)},
            }
            lines.append(json.dumps(row))
    write_text(folder / "annotations" / "performances.jsonl", "\n".join(lines) + "\n")


def _skill(habit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(7,) in [0, 1]: for each dimension the performer's habit, about, with the probability HABIT; else a fresh draw."""
    usual = np.clip(habit + rng.normal(0, 0.1, len(habit)), 0, 1)
    return np.where(rng.uniform(size=len(habit)) < HABIT, usual, rng.uniform(0, 1, len(habit)))


def _perform(skill: np.ndarray, rng: np.random.Generator) -> Performance:
    timing, articulation, dynamics, pedal, tempo, tone, tuning = skill
    step = 0.28 - 0.14 * tempo
    degree = np.clip(np.cumsum(rng.integers(-2, 3, NOTES)) + 7, 0, 20)
    onset = 0.05 + np.arange(NOTES) * step + rng.normal(0, 0.002 + 0.022 * (1 - timing), NOTES)
    held = step * np.clip((0.3 + 0.65 * articulation) * np.exp(rng.normal(0, 0.12, NOTES)), 0.1, 1.2)
    wave = np.sin(2 * np.pi * np.arange(NOTES) / rng.uniform(8, 20) + rng.uniform(0, 2 * np.pi))
    velocity = np.clip(72 + (4 + 26 * dynamics) * wave + rng.normal(0, 5, NOTES), 15, 125).round()
    return Performance(
        pitch=53 + SCALE[degree % 7] + 12 * (degree // 7),
        onset=np.maximum.accumulate(np.maximum(onset, 0.0)) + 1e-3 * np.arange(NOTES),
        held=held,
        velocity=velocity,
        pedal=rng.uniform(size=NOTES) < pedal,
        tilt=1.0 + 1.6 * (1 - tone) + rng.normal(0, 0.1),
        detune=0.5 + 25 * (1 - tuning),
    )


def _render(played: Performance, rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """(samples,) float32: two strings a note, `detune` cents apart, harmonics falling as h^-tilt, in a room."""
    n = int(seconds * rate)
    wave = np.zeros(2 * n, np.float32)
    for i in range(NOTES):
        start = int(played.onset[i] * rate)
        ring = played.held[i] + (0.6 if played.pedal[i] else 0.0)
        length = min(int((ring + 0.12) * rate), 2 * n - start)
        if start >= n or length <= 0:
            break
        time = np.arange(length, dtype=np.float32) / np.float32(rate)
        base = 440 * 2 ** ((played.pitch[i] - 69) / 12)
        order = np.arange(1, max(2, min(HARMONICS, int(rate / 2.05 / base)) + 1))
        strings = 2 ** (np.array([-1, 1]) * played.detune / 2400)
        angular = (2 * np.pi * base * order[:, None] * strings).ravel().astype(np.float32)[:, None]
        phases = np.sin(angular * time + rng.uniform(0, 2 * np.pi, (len(angular), 1)).astype(np.float32))
        tone = np.repeat(order**-played.tilt, 2).astype(np.float32) @ phases
        damped = np.exp(-3 * time - 40 * np.maximum(time - np.float32(ring), 0))
        wave[start : start + length] += tone * damped * np.minimum(1, time / 0.004) * np.float32((played.velocity[i] / 100) ** 1.5)
    dry = wave[:n]
    room = rng.standard_normal(rate // 4) * np.exp(-np.arange(rate // 4) / rate * rng.uniform(12, 25)) * 0.042
    size = 1 << (n + rate // 4).bit_length()
    wet = np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(room, size), size)[:n]
    mixed = dry + wet * rng.uniform(0.5, 1.5)
    return (mixed / np.abs(mixed).max() * rng.uniform(0.2, 0.9) + 0.002 * rng.standard_normal(n)).astype(np.float32)


def _write_midi(played: Performance, path: Path) -> None:
    import pretty_midi

    # 960 ticks a quarter note at 120 a minute: half a millisecond, well below the scatter that timing is scored by.
    midi = pretty_midi.PrettyMIDI(resolution=960, initial_tempo=120)
    piano = pretty_midi.Instrument(program=0)
    for pitch, onset, held, velocity in zip(played.pitch, played.onset, played.held, played.velocity):
        piano.notes.append(pretty_midi.Note(int(velocity), int(pitch), float(onset), float(onset + held)))
    down = False
    for onset, pedal in zip(played.onset, played.pedal):
        if pedal != down:
            piano.control_changes.append(pretty_midi.ControlChange(64, 127 if pedal else 0, float(onset)))
            down = bool(pedal)
    if down:
        piano.control_changes.append(pretty_midi.ControlChange(64, 0, float(played.onset[-1] + 0.6)))
    midi.instruments.append(piano)
    midi.write(str(path))
