"""Recordings as log-mel frames: decoded (recording.py), resampled, cut or padded to one length.

The gain is taken out (a clip's root mean square becomes 1), so what is left is colour over time; loudness is kept
beside it, frame by frame. Mel scale: O'Shaughnessy, 2595·log10(1 + f/700). The spectrum is scipy's float32 FFT: the
same numbers as torch.stft, without three seconds of import in every worker of the copy.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainyard.config.features import AudioFeatures
from trainyard.data.recording import decode
from trainyard.data.refused import Refused

MEL_FLOOR = 1e-6
QUIETEST = -60.0
SPECTRUM_FRAMES = 64


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
    np.divide(x, level, out=clip[: len(x)])
    mel, loudness = mel_energy(clip, features.n_fft, features.hop, mel_matrix(features.sample_rate, features.n_fft, features.mels))
    mel += MEL_FLOOR
    return np.log(mel, out=mel).astype(np.float16), loudness, min(len(loudness), 1 + len(x) // features.hop)


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
    padded = np.pad(x, (n_fft // 2, (n_fft + 1) // 2), mode="reflect")  # of an odd window one more, so that the last hop has its frame
    every = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    room = np.empty((min(SPECTRUM_FRAMES, len(every)), n_fft), np.float32)
    for begin in range(0, len(every), SPECTRUM_FRAMES):
        some = every[begin : begin + SPECTRUM_FRAMES]
        frames = np.multiply(some, window, out=room[: len(some)])
        loudness = 10 * np.log10(np.einsum("tn,tn->t", frames, frames) / weight + 10 ** (QUIETEST / 10))
        bins = scipy.fft.rfft(frames, axis=1).view(np.float32)  # real and imaginary parts by turns
        np.multiply(bins, bins, out=bins)
        yield bins[:, ::2] + bins[:, 1::2], loudness.astype(np.float32)


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
