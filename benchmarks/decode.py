#!/usr/bin/env python
"""Decoding: five seconds of WAV beside soundfile and librosa, three minutes of MIDI beside pretty_midi.

  .bench/bin/python benchmarks/decode.py
Everything is in memory before the clock starts, one thread. Each case runs once unmeasured right before it is measured: a worker
decodes thousands of files in a row, and what the case before left in the caches is nobody's own. The results are checked: samples
against Python's `wave`, notes against pretty_midi.
"""

import argparse
import importlib.util
import io
import os
import random
import sys
import warnings
import wave
from collections import Counter

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import pretty_midi  # noqa: E402
import soundfile  # noqa: E402
import symusic  # noqa: E402
from bench import REPOSITORY, Goal, call, measure, report, verdict  # noqa: E402

sys.path.insert(0, str(REPOSITORY / "workflow"))

from trainyard.config.features import MidiFeatures  # noqa: E402
from trainyard.data.midi import MidiReader  # noqa: E402
from trainyard.data.midi_file import LENGTH, PITCH, TICK, VELOCITY, read_score  # noqa: E402
from trainyard.data.recording import decode  # noqa: E402
from trainyard.data.wav import open_wav  # noqa: E402

RECORDINGS, SONGS = 64, 10
SECONDS, RATE = 5, 44100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="default %(default)s")
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    met = [recordings(rounds), songs(rounds)]
    return 0 if all(met) else 1


def recordings(rounds: int) -> bool:
    files = [recording(np.random.default_rng(i)) for i in range(RECORDINGS)]

    def each(function):
        def run() -> None:
            for data in files:
                function(data)

        return call(run)

    def samples(data: bytes) -> np.ndarray:
        wav = open_wav(data)
        assert wav is not None
        x = wav.samples(0, wav.frames)[:, 0].astype(np.float32)
        x *= np.float32(1 / 32768)  # as soundfile gives them
        return x

    cases = {
        "our samples, scaled to 1": each(samples),
        "our decode: mono, checked": each(lambda data: decode(data, SECONDS, False)),
        "soundfile, float32": each(lambda data: soundfile.read(io.BytesIO(data), dtype="float32")),
    }
    if importlib.util.find_spec("librosa"):
        import librosa

        cases["librosa, own rate"] = each(lambda data: librosa.load(io.BytesIO(data), sr=None))
    ours, theirs = "our decode: mono, checked", "soundfile, float32"
    met = report(
        f"{RECORDINGS} × {SECONDS} s of 16-bit mono WAV at {RATE} Hz", measure(cases, rounds, lambda name: cases[name]()), theirs,
        [Goal(ours, at_least=5, than=theirs)],
    )  # fmt: skip
    same = sum(np.array_equal(samples(data), soundfile.read(io.BytesIO(data), dtype="float32")[0]) for data in files)
    met &= verdict("samples are those of soundfile", f"{same} of {len(files)} files", same == len(files))
    equal = sum(bits_of_wave(data) == open_wav(data).samples(0, SECONDS * RATE).tobytes() for data in files)
    return verdict("samples are the bits of `wave`", f"{equal} of {RECORDINGS} files", equal == RECORDINGS) and met


def recording(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, rng.normal(size=SECONDS * RATE) * 0.1, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def bits_of_wave(data: bytes) -> bytes:
    with wave.open(io.BytesIO(data)) as file:
        return file.readframes(file.getnframes())


def songs(rounds: int) -> bool:
    files = [song(i) for i in range(SONGS)]
    reader = MidiReader(MidiFeatures(), None, {})

    def each(function):
        def run() -> None:
            for data in files:
                function(data)

        return call(run)

    cases = {
        "our notes": each(read_score),
        "our fields: melody, chords, chroma, drums": each(lambda data: reader.read([data], {})),
        "symusic alone": each(lambda data: symusic.Score.from_midi(data)),
        "pretty_midi": each(lambda data: pretty_midi.PrettyMIDI(io.BytesIO(data))),
        "pretty_midi and its chroma": each(lambda data: pretty_midi.PrettyMIDI(io.BytesIO(data)).get_chroma()),
    }
    if importlib.util.find_spec("miditoolkit"):
        import miditoolkit

        cases["miditoolkit"] = each(lambda data: miditoolkit.MidiFile(file=io.BytesIO(data)))
    met = report(
        f"{SONGS} × 3 minutes of MIDI, about 2,593 notes each", measure(cases, rounds, lambda name: cases[name]()), "pretty_midi",
        [Goal("our notes", at_least=80, than="pretty_midi"),
         Goal("our fields: melody, chords, chroma, drums", at_least=80, than="pretty_midi")],
    )  # fmt: skip
    equal = sum(our_notes(data) == their_notes(data) for data in files)
    return verdict("notes are those of pretty_midi", f"{equal} of {SONGS} files", equal == SONGS) and met


def song(seed: int) -> bytes:
    """Three tracks of 180 s, notes of one pitch overlapping here and there."""
    rng, out = random.Random(seed), pretty_midi.PrettyMIDI(initial_tempo=120)
    for program in (0, 32, 48):
        instrument, time = pretty_midi.Instrument(program), 0.0
        while time < 180:
            velocity, pitch, length = rng.randint(30, 110), rng.randint(36, 90), rng.choice((0.25, 0.5, 0.125))
            instrument.notes.append(pretty_midi.Note(velocity, pitch, time, time + length))
            time += rng.choice((0.125, 0.25, 0.25))
        out.instruments.append(instrument)
    file = io.BytesIO()
    out.write(file)
    return file.getvalue()


def our_notes(data: bytes) -> Counter:
    score = read_score(data)
    start, length, pitch, velocity = (score.notes[row] for row in (TICK, LENGTH, PITCH, VELOCITY))
    return Counter(zip(start.tolist(), (start + length).tolist(), pitch.tolist(), velocity.tolist()))


def their_notes(data: bytes) -> Counter:
    out = pretty_midi.PrettyMIDI(io.BytesIO(data))
    tick = out.time_to_tick
    return Counter((int(tick(n.start)), int(tick(n.end)), n.pitch, n.velocity) for i in out.instruments for n in i.notes)


if __name__ == "__main__":
    sys.exit(main())
