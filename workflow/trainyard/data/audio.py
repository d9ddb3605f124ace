"""Recordings as log-mel frames: decode by content, mix to mono, resample, cut or pad to one length.

The gain is taken out (a clip's root mean square becomes 1), so what is left is colour over time; loudness is kept
beside it, frame by frame. Mel scale: O'Shaughnessy, 2595·log10(1 + f/700). The spectrum is scipy's float32 FFT: the
same numbers as torch.stft, without three seconds of import in every worker of the copy.
"""

import io
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainyard.config.features import AudioFeatures
from trainyard.data.refused import Refused
from trainyard.data.wav import CODES, Wav, open_wav

MEL_FLOOR = 1e-6
QUIETEST = -60.0
MAX_CHANNELS = 64
BLOCK = 1 << 16
SPECTRUM_FRAMES = 64
RECORDINGS = {
    (0, b"fLaC"): "FLAC", (0, b"OggS"): "Ogg", (0, b"ID3"): "MP3", (0, b"\xff\xfb"): "MP3", (0, b"\xff\xf3"): "MP3",
    (0, b"riff"): "Wave64", (0, b"FORM"): "AIFF", (0, b".snd"): "AU", (0, b"caff"): "CAF", (4, b"ftyp"): "MP4 or M4A", (0, b"#!AMR"): "AMR",
    (0, b"\x1aE\xdf\xa3"): "Matroska or WebM",
}  # fmt: skip
OTHERS = {
    (0, b"MThd"): "a MIDI file", (0, b"RIFF"): "a RIFF file that is no WAV", (0, b"<"): "a web page or XML",
    (0, b"PK\x03\x04"): "a zip archive",
    (0, b"version https://git-lfs"): "a Git LFS pointer: fetch the file itself with `git lfs pull`",
}  # fmt: skip


class AudioReader:
    """Turns one recording into the fields of a pack.

    mel float16 (frames, mels), natural log of mel energy, zeros (silence) behind a short clip; loudness float32
    (frames,), dB of a frame's energy relative to the clip's, at least -60; frames int32, how many are not padding.
    """

    # A recording often begins and ends in silence: of a long one the middle is kept.
    middle = True

    def __init__(self, features: AudioFeatures, root: Path, context: dict):
        self.features = features

    def files(self, sample: dict) -> list[str]:
        return [sample["path"]]

    def read(self, blobs: list[bytes], sample: dict) -> tuple[dict, dict]:
        """Raises Refused for a recording that cannot be decoded, is too short, silent or not finite."""
        mel, loudness, frames = clip_features(blobs[0], self.features, self.middle)
        return {"mel": mel, "loudness": loudness, "frames": np.int32(frames)}, {}

    def sample_bytes(self) -> int:
        """Bytes of a packed recording, whatever it is."""
        return frame_count(self.features) * (2 * self.features.mels + 4)

    def meta(self) -> dict:
        return {"frames": frame_count(self.features), "mels": self.features.mels}


def frame_count(features: AudioFeatures) -> int:
    """Frames of a clip: one centred on every hop, the first on sample 0."""
    return 1 + clip_samples(features) // features.hop


def clip_samples(features: AudioFeatures) -> int:
    return max(features.hop, round(features.seconds * features.sample_rate))


def clip_features(data: bytes, features: AudioFeatures, middle: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """Mel (frames, mels) float16, loudness (frames,) float32 and the number of frames that are not padding."""
    x, rate = decode(data, features.seconds, middle)
    x = resample(x, rate, features.sample_rate)[: clip_samples(features)]
    if len(x) < features.hop:
        raise Refused(f"shorter than one frame ({len(x)} samples at {features.sample_rate} Hz)")
    level = float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
    if level == 0:
        raise Refused(f"silent: nothing is left of it at {features.sample_rate} Hz")
    clip = np.zeros(clip_samples(features), np.float32)
    clip[: len(x)] = x / level
    mel, loudness = mel_energy(clip, features.n_fft, features.hop, mel_matrix(features.sample_rate, features.n_fft, features.mels))
    mel = np.log(mel + MEL_FLOOR)
    return mel.astype(np.float16), loudness, min(len(loudness), 1 + len(x) // features.hop)


def decode(data: bytes, seconds: float, middle: bool) -> tuple[np.ndarray, int]:
    """At most `seconds` of a recording, mono float32 (samples,) with a peak of 1, and its rate in Hz.

    Only what is kept is decoded, so a small file that claims hours or hundreds of channels costs no memory. Raises Refused.
    """
    if not data:
        raise Refused("empty file")
    wav = open_wav(data)
    if wav is not None and wav.plain:
        _check_claims(wav.rate, wav.channels)
        start, stop = _kept(wav.frames, wav.rate, seconds, middle)
        x, rate, total = _mix(wav.centred(start, stop)), wav.rate, wav.frames
    else:
        x, rate, total = _decode_other(data, seconds, middle, wav)
    if not len(x):
        raise Refused("holds no samples")
    low, high = float(np.minimum.reduce(x)), float(np.maximum.reduce(x))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Refused("holds values that are not finite")
    if low == high:
        part = f"the {len(x) / rate:.3g} s that would be kept" if len(x) < total else "every sample"
        raise Refused(f"silent: {part} {'is zero' if high == 0 else 'has the same value'}")
    peak = max(-low, high)
    if x.dtype == np.float64:
        return (x / peak).astype(np.float32), rate
    return np.divide(x, np.float32(peak), dtype=np.float32), rate


def _check_claims(rate: int, channels: int) -> None:
    if not 1000 <= rate <= 768_000:
        raise Refused(f"claims a sample rate of {rate} Hz")
    if channels > MAX_CHANNELS:
        raise Refused(f"claims {channels} channels")


def _kept(frames: int, rate: int, seconds: float, middle: bool) -> tuple[int, int]:
    """First and last sample of what is kept: a little more than asked for, so that the resampler's edge falls outside of it."""
    wanted = math.ceil(seconds * rate) + 64
    start = (frames - wanted) // 2 if middle and frames > wanted else 0
    return start, start + wanted


def _mix(x: np.ndarray) -> np.ndarray:
    """(samples, channels) to (samples,); float64 where there was something to average or float32 would round."""
    if x.shape[1] == 1 and x.dtype in (np.int16, np.float64):
        return x[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):  # samples that are not finite are refused later
        return x.mean(1, dtype=np.float64)


def _decode_other(data: bytes, seconds: float, middle: bool, wav: Wav | None) -> tuple[np.ndarray, int, int]:
    """What is kept of any format that soundfile knows, mono (samples,); its rate and number of samples. Raises Refused."""
    import soundfile

    try:
        with soundfile.SoundFile(_Bytes(data)) as file:
            _check_claims(file.samplerate, file.channels)
            start, stop = _kept(file.frames, file.samplerate, seconds, middle)
            if start and file.frames < 1 << 40 and file.seekable():
                file.seek(start)
            return _blocks(file, stop - start), file.samplerate, file.frames
    except (RuntimeError, OSError, TypeError) as error:
        if wav is not None:
            raise Refused(f"its samples are {CODES.get(wav.code, f'of format code {wav.code}')}, and cannot be decoded") from None
        raise Refused(_why_not(data, str(error))) from None


class _Bytes(io.BytesIO):
    """Bytes that libsndfile seeks in: a damaged file sends it before the start, which Python's own raise and print for."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError, OSError):
            return self.tell()


def _why_not(data: bytes, error: str) -> str:
    """Why soundfile cannot read these bytes, for people."""
    if kind := _begins(data, RECORDINGS):
        # soundfile puts the object that it read from before what libsndfile says.
        words = " ".join(error.rsplit(">: ", 1)[-1].removeprefix("Error : ").split())
        vague = "nternal" in words or "unknown error" in words or "malformed" in words
        return f"{kind} that is damaged, or of a variety that cannot be read" + ("" if vague else f" ({words.rstrip('.')})")
    return f"not a recording: {_begins(data, OTHERS) or 'its first bytes are those of no known kind of recording'}"


def _begins(data: bytes, magic: dict[tuple[int, bytes], str]) -> str | None:
    return next((name for (at, first), name in magic.items() if data[at : at + len(first)] == first), None)


def _blocks(file, wanted: int) -> np.ndarray:
    """The next `wanted` samples, channels averaged; fewer at the end of the file or where it breaks off."""
    blocks: list[np.ndarray] = []
    while wanted > 0:
        try:
            # float64: a float file may hold values whose sum float32 cannot.
            block = file.read(min(wanted, BLOCK), dtype="float64", always_2d=True)
        except RuntimeError:
            if not blocks:
                raise
            break
        if not len(block):
            break
        blocks.append(_mix(block))
        wanted -= len(block)
    return np.concatenate(blocks) if blocks else np.zeros(0)


def resample(x: np.ndarray, rate: int, target: int) -> np.ndarray:
    """(samples,) at `rate` to (samples,) at `target`, band-limited (soxr's high quality)."""
    if rate == target:
        return x
    import soxr

    return soxr.resample(x, rate, target)


def mel_energy(x: np.ndarray, n_fft: int, hop: int, filters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy (frames, mels) behind filters (mels, n_fft / 2 + 1), and loudness (frames,) in dB, of windows on every hop."""
    parts = [(power @ filters.T, loudness) for power, loudness in spectrum(x, n_fft, hop)]
    mel, loudness = (np.concatenate(column) for column in zip(*parts))
    return mel, loudness


def spectrum(x: np.ndarray, n_fft: int, hop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Power (frames, n_fft / 2 + 1) of Hann windows centred on every hop, and their loudness (frames,) in dB.

    Some frames at a time, so that they stay in the processor's cache. The ends are mirrored, as torch.stft(center=True)
    does. Loudness is that of a signal whose mean square is 1.
    """
    import scipy.fft

    window, weight = _hann(n_fft)
    padded = np.pad(x, n_fft // 2, mode="reflect")
    every = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    for begin in range(0, len(every), SPECTRUM_FRAMES):
        frames = every[begin : begin + SPECTRUM_FRAMES] * window
        loudness = 10 * np.log10(np.einsum("tn,tn->t", frames, frames) / weight + 10 ** (QUIETEST / 10))
        bins = scipy.fft.rfft(frames, axis=1)
        yield bins.real**2 + bins.imag**2, loudness.astype(np.float32)


@lru_cache(maxsize=8)
def _hann(n: int) -> tuple[np.ndarray, float]:
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
    return window, float((window**2).sum())


@lru_cache(maxsize=8)
def mel_matrix(rate: int, n_fft: int, mels: int) -> np.ndarray:
    """Triangular filters (mels, n_fft / 2 + 1) from 60 Hz to 95 % of half the sample rate, each with a peak of 1.

    A filter narrower than a bin of the spectrum still takes its nearest bin, so that no band is always empty.
    """
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)
    to_mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731
    edges = 700 * (10 ** (np.linspace(to_mel(60.0), to_mel(0.475 * rate), mels + 2) / 2595) - 1)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    matrix = np.maximum(np.minimum(rise, fall), 0).astype(np.float32)
    for band in np.flatnonzero(matrix.sum(1) == 0):
        matrix[band, np.abs(bins - edges[band + 1]).argmin()] = 1
    return matrix


def colour(mel: np.ndarray) -> np.ndarray:
    """Mel frames (…, frames, mels) with the energy of every frame taken out: what a frame sounds like, not how loud.

    Bands far below the frame's energy are cut off at -8 nats: there the noise floor of the file would show, and with
    it the level that was taken away.
    """
    mel = mel.astype(np.float32)
    top = mel.max(-1, keepdims=True)
    return np.maximum(mel - top - np.log(np.exp(mel - top).sum(-1, keepdims=True)), -8.0)


def clip_statistics(mel: np.ndarray, frames: int) -> np.ndarray:
    """Mean and spread of each band over a clip's real frames, (2 · mels,) float32: what simple baselines look at."""
    real = mel[:frames].astype(np.float32)
    return np.concatenate([real.mean(0), real.std(0)])
