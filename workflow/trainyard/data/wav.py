"""WAV files read straight from their bytes: RIFF, big-endian RIFX, RF64 and BW64 with PCM or float samples.

The samples are a view of the bytes (24 bits: one copy): several times as fast as a decoder, and the same numbers. Companded and
compressed WAV (A-law, µ-law, ADPCM) is left to soundfile; a header that contradicts itself is refused in words here.
The formats: "Multimedia Programming Interface and Data Specifications 1.0" (RIFF), RFC 2361 (codes), EBU Tech 3306 (RF64).
"""

import struct
from dataclasses import dataclass

import numpy as np

from trainyard.data.refused import Refused

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
# Behind the two bytes of the code in the sub-format of an extensible header.
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
BIG_GUID_TAIL = bytes.fromhex("00000010800000aa00389b71")  # behind the four bytes of the code, all of it big-endian
AMBISONIC_TAIL = bytes.fromhex("00002107d3118644c8c1ca000000")
CODES = {2: "MS ADPCM", 6: "A-law", 7: "µ-law", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x50: "MPEG", 0x55: "MP3", 0xFF: "AAC"}
UNKNOWN_SIZE = 0xFFFFFFFF  # of a stream whose end its writer did not know
# (code, bytes a sample, big-endian) → how numpy reads it. Three bytes are read with the one before them.
TYPES = {
    (code, width, big): np.dtype(f"{'>' if big else '<'}{kind}")
    for code, width, kind in ((PCM, 1, "u1"), (PCM, 2, "i2"), (PCM, 3, "i4"), (PCM, 4, "i4"), (FLOAT, 4, "f4"), (FLOAT, 8, "f8"))
    for big in (False, True)
}


@dataclass(slots=True)
class Wav:
    """An opened WAV: `frames` samples of each of `channels` at `rate` Hz, from byte `begin` of `data` on; `code` and `bits` are those
    of its header."""

    rate: int
    channels: int
    frames: int
    code: int
    bits: int
    data: bytes
    begin: int
    big: bool

    @property
    def plain(self) -> bool:
        """Whether `samples` can read it: PCM or float of a whole number of bytes."""
        return (self.code == PCM and 1 <= self.bits <= 32) or (self.code == FLOAT and self.bits in (32, 64))

    def samples(self, start: int, stop: int) -> np.ndarray:
        """(frames, channels) as stored: uint8 for 8 bits, int16, int32 (24 bits in its upper three bytes), float32, float64."""
        width = -(-self.bits // 8)
        shape = (max(min(stop, self.frames) - start, 0), self.channels)
        kind, at = TYPES[self.code, width, self.big], self.begin + start * self.channels * width
        if width != 3:
            return np.ndarray(shape, kind, self.data, at)
        values = np.ndarray(shape, kind, self.data, at - 1, (3 * self.channels, 3))
        return np.left_shift(values, 8, dtype=np.int32) if self.big else np.bitwise_and(values, -256, dtype=np.int32)

    def centred(self, start: int, stop: int) -> np.ndarray:
        """As `samples`, with silence at 0 and no wider than needed: 8 bits, which WAV stores from 0 to 255, become int16 from -128 to
        127, 24 bits float32."""
        values = self.samples(start, stop)
        if values.dtype == np.uint8:
            return np.subtract(values, 128, dtype=np.int16)
        return values.astype(np.float32) if 16 < self.bits <= 24 else values


def open_wav(data: bytes) -> Wav | None:
    """The WAV in these bytes, or None when they are another format. Raises Refused where the header cannot be true."""
    kind = data[:4]
    if kind not in (b"RIFF", b"RIFX", b"RF64", b"BW64") or data[8:12] != b"WAVE":
        return None
    big = kind == b"RIFX"
    form, begin, size = _chunks(data, "big" if big else "little", kind in (b"RF64", b"BW64"))
    code, channels, rate, byte_rate, align, bits = struct.unpack_from(">HHIIHH" if big else "<HHIIHH", form)
    if code == EXTENSIBLE:
        if big and form[24:26] == b"\0\0" and form[28:40] == BIG_GUID_TAIL:
            code = int.from_bytes(form[26:28], "big")
        elif len(form) == 40 and form[26:40] in (GUID_TAIL, AMBISONIC_TAIL):
            code = int.from_bytes(form[24:26], "big" if big else "little")
        else:
            raise Refused(f"its samples are in a format that is not known (sub-format {form[24:40].hex() or 'missing'})")
    if not channels:
        raise Refused("claims 0 channels")
    width = channels * -(-bits // 8)
    if code in (PCM, FLOAT):
        if bits not in ((32, 64) if code == FLOAT else range(1, 33)):
            raise Refused(f"claims {bits} bits a sample, which {'float' if code == FLOAT else 'PCM'} WAV does not have")
        # Of the three that say how long a frame is two must agree; else the samples would be noise.
        if align != width and byte_rate != rate * width:
            raise Refused(f"its header contradicts itself: {channels} channel(s) of {bits} bits are {width} bytes, it says {align}")
    elif not 1 <= code < EXTENSIBLE:
        raise Refused(f"its samples are in a format that does not exist (code {code})")
    return Wav(rate, channels, size // max(width, 1), code, bits, data, begin, big)


def _chunks(data: bytes, order: str, wide: bool) -> tuple[bytes, int, int]:
    """The format chunk, and where the samples begin and how many bytes there are. Raises Refused."""
    form, long_size, at = b"", None, 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
        body = at + 8
        if name == b"data":
            if not form:
                raise Refused("its samples come before the format (fmt) that would say how to read them")
            there = len(data) - body
            if wide and size == UNKNOWN_SIZE and long_size is not None:
                size = long_size
            if size == 0 and not _is_chunk(data, body, order):
                size = there  # never closed by its writer
            return form, body, min(size, there)
        if name == b"fmt ":
            if size < 16 or body + 16 > len(data):
                raise Refused("cut off inside its format (fmt)")
            if form and data[body : body + 16] != form[:16]:
                raise Refused("has two formats (fmt) that differ")
            form = bytes(data[body : body + min(size, 40)])
        elif name == b"ds64" and wide and size >= 24:
            long_size = int.from_bytes(data[body + 8 : body + 16], "little")
        if body + size > len(data):
            raise Refused(f"no samples: its part '{_printable(name)}' claims {size} bytes, the file has {len(data) - body} more")
        at = body + size
        # Parts begin at even places; some writers forget the byte that fills an odd one.
        if size % 2 and not (data[at : at + 1] != b"\0" and _is_chunk(data, at, order)):
            at += 1
    raise Refused("no samples: it ends before them" if form else "no samples: it has neither a format (fmt) nor data")


def _is_chunk(data: bytes, at: int, order: str) -> bool:
    """Whether a part seems to begin here: four printable letters and a size that fits the file."""
    name = data[at : at + 4]
    return len(name) == 4 and _printable(name) == name.decode("latin-1") and int.from_bytes(data[at + 4 : at + 8], order) <= len(data) - at  # type: ignore[arg-type]


def _printable(name: bytes) -> str:
    return "".join(chr(c) if 32 <= c < 127 else "?" for c in name)
