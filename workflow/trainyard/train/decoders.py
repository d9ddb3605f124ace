"""Decoders tried for real: a small file of every kind in use is made here, decoded the way the local copy does, and timed.

Needs no torch.
"""

import io
import struct
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from trainyard.config.features import VideoFeatures
from trainyard.data.refused import Refused
from trainyard.train.check import Check, fail, ok, warn

AUDIO, MIDI = ("audio", "paired"), ("midi", "paired")
USUAL = {"audio": (".wav",), "paired": (".wav", ".mid"), "midi": (".mid",), "video": (".npz",)}
CONTAINERS = {
    ".wav": "WAV", ".wave": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3", ".aiff": "AIFF",
    ".aif": "AIFF", ".au": "AU", ".w64": "W64", ".rf64": "RF64",
}  # fmt: skip
CODECS = {".opus": "OPUS"}  # where a container's usual one is another
MIDI_NAMES = (".mid", ".midi", ".rmi", ".kar", ".smf")
RATE, TONE = 16000, 440.0
SLOW = 0.1  # seconds for a second of sound, or for a song of 64 bars: ten times what the slowest of the usual decoders takes


def kinds_of(format: str, paths: Iterable[str] = ()) -> list[str]:
    """File name endings that the samples of a dataset have and a decoder of ours stands behind; the usual ones of the format if none."""
    known = {*(CONTAINERS if format in AUDIO else ()), *(MIDI_NAMES if format in MIDI else ()), *((".npz",) if format == "video" else ())}
    found = {PurePosixPath(p).suffix.lower() for p in paths} & known
    found = {".mid" if kind in MIDI_NAMES else kind for kind in found}
    missing = {kind for kind in USUAL.get(format, ()) if not any(_family(kind) == _family(k) for k in found)}
    return sorted(found | missing)


def check_decoders(kinds: Iterable[str]) -> list[Check]:
    """A check a decoder, from the file name endings in use."""
    kinds = list(kinds)
    out: list[Check] = []
    sounds = [kind for kind in kinds if kind in CONTAINERS]
    if sounds:
        out += [_guarded("audio", "soundfile", lambda: _audio(sounds)), _guarded("resampler", "soxr", _resampler)]
    if ".mid" in kinds:
        out.append(_guarded("midi", "symusic", _midi))
    if ".npz" in kinds:
        out.append(_guarded("video", "numpy", _video))
    return [check.of_machine() for check in out]


def _guarded(name: str, package: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # whatever a broken installation raises
        words = " ".join(str(error).split()) or type(error).__name__
        return fail(name, f"{package} does not work: {words}", "works", _again(package))


def _again(package: str) -> str:
    return f"install it again: {sys.executable} -m pip install --force-reinstall {package}"


def _audio(kinds: list[str]) -> Check:
    """A second of a tone in every container in use, decoded by the reader of recordings."""
    import soundfile

    from trainyard.data.recording import decode

    tone = (0.5 * np.sin(2 * np.pi * TONE * np.arange(RATE) / RATE)).astype(np.float32)
    times = {}
    for container, codec in sorted({(CONTAINERS[kind], CODECS.get(kind)) for kind in kinds}, key=str):
        file = io.BytesIO()
        name = codec or container
        if container not in soundfile.available_formats() or (codec and codec not in soundfile.available_subtypes(container)):
            advice = f"this libsndfile is too old for it; {_again('soundfile')}"
            return fail("audio", f"libsndfile {soundfile.__libsndfile_version__} cannot read {name}", "every kind in use", advice)
        soundfile.write(file, tone, RATE, format=container, subtype=codec)
        decode(file.getvalue(), 1.0, False)  # what is loaded once is no part of a file's time
        began = time.perf_counter()
        try:
            samples, rate = decode(file.getvalue(), 1.0, False)
        except Refused as error:
            return fail("audio", f"{name}: {error}", "every kind in use", _again("soundfile"))
        times[name] = time.perf_counter() - began
        strongest = np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)
        if rate != RATE or abs(strongest - TONE) > 2:
            return fail("audio", f"a {name} of {TONE:.0f} Hz decodes to {strongest:.0f} Hz", f"{TONE:.0f} Hz", _again("soundfile"))
    backend = f"soundfile {soundfile.__version__} ({soundfile.__libsndfile_version__})"
    value = f"{backend}; a second of {_each(times)}"
    if max(times.values()) > SLOW:
        return warn("audio", value, f"{SLOW * 1e3:.0f} ms", "this is the speed of a fallback; " + _again("soundfile"))
    return ok("audio", value, f"{SLOW * 1e3:.0f} ms")


def _resampler() -> Check:
    import soxr

    from trainyard.data.audio import resample

    tone = np.sin(2 * np.pi * TONE * np.arange(RATE) / RATE).astype(np.float32)
    half = resample(tone, RATE, RATE // 2)
    strongest = np.abs(np.fft.rfft(half)).argmax() * (RATE / 2) / len(half)
    if abs(strongest - TONE) > 2:
        return fail("resampler", f"{TONE:.0f} Hz becomes {strongest:.0f} Hz", f"{TONE:.0f} Hz", _again("soxr"))
    return ok("resampler", f"soxr {soxr.__version__}")


def _midi() -> Check:
    """A song of 64 bars; its notes as they were written, and by which of the two parsers."""
    from trainyard.data.midi_file import PITCH, Score, read_score

    pitches = [48 + i * 7 % 36 for i in range(256)]
    track = b"".join(bytes((0, 0x90, p, 64, 96, 0x80, p, 0)) for p in pitches) + bytes.fromhex("00ff2f00")
    song = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", len(track)) + track
    try:
        import symusic

        parser = f"symusic {getattr(symusic, '__version__', '')}".strip()
        symusic.Score.from_midi(song)
        fallback = ""
    except Exception as error:
        parser, fallback = "pretty_midi", " ".join(str(error).split()) or type(error).__name__
    read_score(song)
    began = time.perf_counter()
    score: Score = read_score(song)
    seconds = time.perf_counter() - began
    if score.notes[PITCH].tolist() != pitches:
        return fail("midi", f"{parser} reads other notes than were written", "the same notes", _again("symusic"))
    value = f"{parser}; a song of 64 bars in {seconds * 1e3:.2g} ms"
    if fallback:
        return warn("midi", f"{value}: a slow fallback, symusic does not work: {fallback}", "symusic", _again("symusic"))
    return ok("midi", value)


def _video() -> Check:
    from trainyard.data.video import VideoReader

    features = VideoFeatures(cameras=1, frames=2, size=16)
    video = np.arange(2 * 3 * 16 * 16, dtype=np.uint8).reshape(1, 2, 3, 16, 16)
    file = io.BytesIO()
    np.savez_compressed(file, video=video, positions=np.zeros((3, 3), np.float32))
    fixed, _ = VideoReader(features, Path(), {}).read([file.getvalue()], {})
    if not np.array_equal(fixed["video"], video):
        return fail("video", "an .npz decodes to other pixels than were written", "the same pixels", _again("numpy"))
    return ok("video", f"numpy {np.__version__}")


def _each(times: dict[str, float]) -> str:
    return ", ".join(f"{name} in {seconds * 1e3:.2g} ms" for name, seconds in times.items())


def _family(kind: str) -> str:
    return "audio" if kind in CONTAINERS else "midi" if kind in MIDI_NAMES else kind
