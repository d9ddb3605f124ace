"""MIDI files as no good writer makes them: name → (bytes, what the refusal says)."""

import struct

END = b"\x00\xff\x2f\x00"


def variable(value):
    out = [value & 0x7F]
    while value := value >> 7:
        out.insert(0, value & 0x7F | 0x80)
    return bytes(out)


def note(pitch, start=0, length=24, channel=0):
    """A note `start` ticks after the event before it."""
    return variable(start) + bytes([0x90 | channel, pitch, 80]) + variable(length) + bytes([0x80 | channel, pitch, 0])


def midi(*tracks, kind=0, division=96, count=None):
    head = b"MThd" + struct.pack(">IHHH", 6, kind, len(tracks) if count is None else count, division)
    return head + b"".join(b"MTrk" + struct.pack(">I", len(t + END)) + t + END for t in tracks)


def events(rows, channel=0):
    """A track from (tick, on or off, pitch, velocity), in this order."""
    out, at = b"", 0
    for tick, kind, pitch, velocity in rows:
        out += variable(tick - at) + bytes([(0x90 if kind == "on" else 0x80) | channel, pitch, velocity])
        at = tick
    return out


TUNE = b"".join(note(60 + k) for k in range(12))
RUNNING = b"\x00\x90\x3c\x50" + b"".join(b"\x18" + bytes([60 + k, 0, 0, 61 + k, 80]) for k in range(11)) + b"\x18\x47\x00"
LONG_HEAD = b"MThd" + struct.pack(">IHHH", 10, 0, 1, 96) + bytes(4) + midi(TUNE)[14:]

ACCEPTED = {
    "type 0": midi(TUNE),
    "type 1": midi(b"", TUNE, kind=1),
    "type 2": midi(TUNE, TUNE, kind=2),
    "running status": midi(RUNNING),
    "a track count that is too large": midi(TUNE, count=9, kind=1),
    "a chunk of another kind between": midi(TUNE)[:14] + b"XFIH\0\0\0\4abcd" + midi(TUNE)[14:],
    "a longer header": LONG_HEAD,
    "garbage behind the end": midi(TUNE) + b"\0garbage" * 20,
    "no end of track": midi(TUNE)[:14] + b"MTrk" + struct.pack(">I", len(TUNE)) + TUNE,
    "a system exclusive message": midi(b"\0\xf0\x05\x7e\x7f\x09\x01\xf7" + TUNE),
    "text that is not UTF-8": midi(b"\0\xff\x03\x04\xff\xfe\xe4\xf6" + TUNE),
    "a note that is never ended": midi(b"\0\x90\x30\x50" + TUNE),
    "a note-off without a note": midi(b"\0\x80\x30\x50" + TUNE),
    "a note without length": midi(b"\0\x90\x30\x50\0\x80\x30\0" + TUNE),
    "a meter of nothing": midi(b"\0\xff\x58\x04\x00\xff\x18\x08" + TUNE),
    "a tempo of nothing": midi(b"\0\xff\x51\x03\0\0\0" + TUNE),
    "RIFF around it": b"RIFF" + struct.pack("<I", len(midi(TUNE)) + 12) + b"RMIDdata" + struct.pack("<I", len(midi(TUNE))) + midi(TUNE),
    "one tick a quarter": midi(b"".join(note(60 + k, 0, 1) for k in range(12)), division=1),
}
REFUSED = {
    "empty": (b"", "the file is empty"),
    "cut off in the header": (b"MThd\0\0", "cut off inside its header"),
    "another format": (b"RIFF____WAVEfmt ", "not a MIDI file"),
    "MIDI 2.0": (b"SMF2CLIP" + bytes(40), "MIDI 2.0"),
    "SMPTE division": (midi(TUNE, division=0xE728), "SMPTE"),
    "division 0": (midi(TUNE, division=0), "0 ticks"),
    "type 5": (midi(TUNE, kind=5), "type 5 does not exist"),
    "no track": (midi(), "no track"),
    "no notes": (midi(b""), "no notes"),
    "a type 2 file without notes": (midi(b"", b"", kind=2), "no notes"),
    "data bytes above 127": (midi(b"\0\x90\xbc\x50\x18\x80\xbc\x00" + TUNE), "pitch of 188"),
    "a type 2 file whose track is cut off in its header": (midi(TUNE, kind=2)[:20], "no track"),
    "an undefined status byte": (midi(b"\0\xf4" + TUNE), "status byte"),
    "cut off in a track": (midi(TUNE)[:-30], "cannot be decoded"),
    "a track length beyond the file": (midi(TUNE)[:18] + b"\x7f\xff\xff\xff" + midi(TUNE)[22:], "cannot be decoded"),
    "ticks that overflow": (midi(note(60, 0x0FFFFFFF, 0x0FFFFFFF) * 6), "times overflow"),
    "a note after all bars": (midi(note(60, 0x0FFFFFFF)), "before bar"),
    "only noise behind the header": (midi(TUNE)[:14] + b"MTrk\0\0\1\0" + bytes(range(256)), "cannot be decoded|no notes"),
}
