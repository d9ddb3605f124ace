"""WAV files as no good writer makes them: name → (bytes, what the refusal says, or None where the recording is read)."""

import struct

import numpy as np

TONE = (np.sin(np.arange(8000) * 0.3) * 9000).astype("<i2")
SOUND = TONE.tobytes()
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")


def part(name, body, size=None):
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt(code=1, channels=1, rate=8000, align=2, bits=16, byte_rate=None):
    return struct.pack("<HHIIHH", code, channels, rate, min(rate * align, 2**32 - 1) if byte_rate is None else byte_rate, align, bits)


def wav(form=None, sound=SOUND, size=None, riff_size=None, before=b"", behind=b"", kind=b"RIFF"):
    body = b"WAVE" + before + part(b"fmt ", fmt() if form is None else form) + part(b"data", sound, size) + behind
    return kind + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def extensible(guid, bits=16, align=2):
    return fmt(0xFFFE, align=align, bits=bits) + struct.pack("<HHI", 22, bits, 4) + guid


def pcm(sound, bits, channels, big=False, code=1, more=b""):
    """A file of these bytes, sample after sample; `more` of the format."""
    order, width = ">" if big else "<", -(-bits // 8)
    form = struct.pack(f"{order}HHIIHH", code, channels, 8000, 8000 * channels * width, channels * width, bits) + more
    body = b"WAVEfmt " + struct.pack(f"{order}I", len(form)) + form + b"data" + struct.pack(f"{order}I", len(sound)) + sound
    return (b"RIFX" if big else b"RIFF") + struct.pack(f"{order}I", len(body)) + body


def rf64(kind=b"RF64"):
    long = struct.pack("<QQQI", 0, len(SOUND), len(TONE), 0)
    return wav(before=part(b"ds64", long), size=0xFFFFFFFF, riff_size=0xFFFFFFFF, kind=kind)


SAME = {  # read, and all of them sound as the plain one
    "plain": wav(),
    "data size 0, never closed by its writer": wav(size=0),
    "data size 0xFFFFFFFF (streamed)": wav(size=0xFFFFFFFF, riff_size=0xFFFFFFFF),
    "data size too large": wav(size=len(SOUND) + 1000),
    "RIFF size 0": wav(riff_size=0),
    "RIFF size too small": wav(riff_size=100),
    "RIFF size too large": wav(riff_size=10**6),
    "odd part, filled": wav(before=part(b"junk", b"abc")),
    "odd part, not filled": wav(before=b"junk" + struct.pack("<I", 3) + b"abc"),
    "empty part": wav(before=part(b"junk", b"")),
    "parts behind the data": wav(behind=part(b"LIST", b"INFOISFT") + part(b"id3 ", b"x")),
    "garbage behind the end": wav() + b"garbage" * 100,
    "two data parts: the first counts": wav(behind=part(b"data", SOUND[::-1])),
    "the format twice": wav(before=part(b"fmt ", fmt())),
    "byte rate wrong": wav(fmt(byte_rate=1)),
    "block align wrong, byte rate right": wav(fmt(align=4, byte_rate=16000)),
    "12 bits in two bytes": wav(fmt(bits=12)),
    "extensible header": wav(extensible(PCM_GUID)),
    "longer format part": wav(fmt() + bytes(24)),
    "RIFX (big-endian)": pcm(TONE.byteswap().tobytes(), 16, 1, big=True),
    "RIFX, extensible header": pcm(
        TONE.byteswap().tobytes(),
        16,
        1,
        big=True,
        code=0xFFFE,
        more=struct.pack(">HHI", 22, 16, 4) + bytes.fromhex("0000000100000010800000aa00389b71"),
    ),  # fmt: skip
    "RF64": rf64(),
    "BW64": rf64(b"BW64"),
}
REFUSED = {
    "block align and bits contradict": (wav(fmt(align=1)), "contradicts itself"),
    "bits for more than the block holds": (wav(fmt(bits=24)), "contradicts itself"),
    "0 bits": (wav(fmt(bits=0)), "claims 0 bits"),
    "64-bit PCM": (wav(fmt(bits=64, align=8)), "claims 64 bits"),
    "16-bit float": (wav(fmt(3)), "claims 16 bits a sample, which float"),
    "0 channels": (wav(fmt(channels=0)), "claims 0 channels"),
    "300 channels": (wav(fmt(channels=300, align=600)), "claims 300 channels"),
    "sample rate 0": (wav(fmt(rate=0)), "sample rate of 0 Hz"),
    "sample rate 1 GHz": (wav(fmt(rate=10**9)), "sample rate of 1000000000 Hz"),
    "no format": (b"RIFF\x63\0\0\0WAVE" + part(b"data", SOUND), "come before the format"),
    "data before format": (b"RIFF\x63\0\0\0WAVE" + part(b"data", SOUND) + part(b"fmt ", fmt()), "come before the format"),
    "two formats": (wav(before=part(b"fmt ", fmt(rate=16000))), "two formats"),
    "no data": (b"RIFF\x63\0\0\0WAVE" + part(b"fmt ", fmt()), "ends before them"),
    "a part larger than the file": (wav(before=b"junk\xf0\xff\xff\xff"), "'junk' claims 4294967280 bytes"),
    "cut off in the format": (wav()[:26], "cut off inside its format"),
    "cut off behind the header": (wav()[:44], "holds no samples"),
    "cut off in the first samples": (wav()[:60], "shorter than one frame"),
    "format code 0": (wav(fmt(0)), "format that does not exist"),
    "MP3 in WAV": (wav(fmt(0x55)), "samples are MP3"),
    "ADPCM without its tables": (wav(fmt(2, bits=4)), "samples are MS ADPCM"),
    "unknown sub-format": (wav(extensible(bytes(16))), "format that is not known"),
    "silence": (wav(sound=bytes(16000)), "silent: every sample is zero"),
    "a constant": (wav(sound=b"\x10\x20" * 8000), "silent: every sample has the same value"),
    "an AVI file": (b"RIFF\x40\0\0\0AVI LIST" + bytes(60), "a RIFF file that is no WAV"),
    "a web page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "a MIDI file": (b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0", "a MIDI file"),
}
