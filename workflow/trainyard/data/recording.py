"""A recording's bytes → mono samples with a peak of 1, or a plain reason why not. Told by content, never by name.

WAV is read here (wav.py), everything else by soundfile. Whole numbers stay whole until the one division by the peak: as
exact as float64, in half the memory.
"""

import io
import math

import numpy as np

from trainyard.data.refused import Refused
from trainyard.data.wav import CODES, Wav, open_wav

MAX_CHANNELS = 64
BLOCK = 1 << 16
COLUMNS = 8  # from so many channels on numpy's mean adds in another order
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


def decode(data: bytes, seconds: float, middle: bool) -> tuple[np.ndarray, int]:
    """At most `seconds` of a recording, mono float32 (samples,) of any scale that can be squared, and its rate in Hz.

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
    if x.dtype.kind == "f":
        peak = max(-float(np.minimum.reduce(x)), float(np.maximum.reduce(x)))
        if not math.isfinite(peak):
            raise Refused("holds values that are not finite")
    if _is_constant(x):
        part = f"the {len(x) / rate:.3g} s that would be kept" if len(x) < total else "every sample"
        raise Refused(f"silent: {part} {'is zero' if x[0] == 0 else 'has the same value'}")
    return (_scaled(x, peak) if x.dtype.kind == "f" else x.astype(np.float32)), rate


def _is_constant(x: np.ndarray) -> bool:
    some = x[:: max(1, len(x) // 64)]  # nearly always tells, and spares a look at all of them
    return bool((some == some[0]).all() and (x == x[0]).all())


def _scaled(x: np.ndarray, peak: float) -> np.ndarray:
    """Floats as float32 that can be squared: a power of two costs no bit."""
    most = 126 if x.dtype == np.float32 else 1000  # a power that the type holds
    scale = 2.0 ** -min(max(math.frexp(peak)[1], -most), most)
    return np.multiply(x, x.dtype.type(scale)).astype(np.float32, copy=False)


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
    """(samples, channels) to (samples,), of any scale; float64 where float32 would round."""
    channels = x.shape[1]
    if channels == 1:
        return x[:, 0]
    whole = x.dtype.itemsize == 2  # the sum of so many is exact in float32
    with np.errstate(over="ignore", invalid="ignore"):  # samples that are not finite are refused later
        if channels >= COLUMNS and not whole:
            return x.mean(1, dtype=np.float64)
        total = np.add(x[:, 0], x[:, 1], dtype=np.float32 if whole else np.float64)
        for column in range(2, channels):
            total += x[:, column]
        # The sum will do, at its own scale, where float32 holds it or where the mean has the same bits and another exponent.
        same = whole or (channels in (2, 4) and x.dtype.itemsize == 4)
        return total if same else np.divide(total, channels, out=total)


def _decode_other(data: bytes, seconds: float, middle: bool, wav: Wav | None) -> tuple[np.ndarray, int, int]:
    """What is kept of any format that soundfile knows, mono (samples,); its rate and number of samples. Raises Refused."""
    import soundfile

    try:
        with soundfile.SoundFile(_Bytes(data)) as file:
            _check_claims(file.samplerate, file.channels)
            start, stop = _kept(file.frames, file.samplerate, seconds, middle)
            if start and file.frames < 1 << 40 and file.seekable():
                file.seek(start)
            # Else every read ends with a seek to where it is already, and MP3 frames would miss what they borrow from earlier ones.
            file.seekable = lambda: False
            x = _blocks(file, stop - start)
            if not len(x) and file.frames:
                raise Refused(_why_not(data, ""))
            return x, file.samplerate, file.frames
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
        vague = not words or "nternal" in words or "unknown error" in words or "malformed" in words
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
