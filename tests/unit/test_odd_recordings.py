"""Odd recordings and names, one by one: what is read has its own tone in the pack. More headers: odd_wav.py."""

import os
from collections.abc import Callable

import numpy as np
import odd_wav
import pytest
from odd_inputs import AUDIO, RATE, Outcome, loudest, root_of, through, tone


def sized(at: int, value: int) -> Callable[[float], bytes]:
    """A WAV file with another of its two sizes: at byte 4 that of all, at byte 40 that of the samples."""
    return lambda hz: tone(hz)[:at] + value.to_bytes(4, "little") + tone(hz)[at + 4 :]


SUBTYPES = {"8-bit": "PCM_U8", "16-bit": "PCM_16", "24-bit": "PCM_24", "32-bit": "PCM_32", "float": "FLOAT", "64-bit float": "DOUBLE",
            "A-law": "ALAW"}  # fmt: skip
READ: dict[str, Callable[[float], bytes]] = {
    **{name: lambda hz, s=s: tone(hz, s) for name, s in SUBTYPES.items()},
    **{f"{n} channels": lambda hz, n=n: tone(hz, channels=n) for n in range(1, 9)},
    **{f"{n} channels of 24 bits": lambda hz, n=n: tone(hz, "PCM_24", n) for n in (2, 8)},
    "RF64": lambda hz: tone(hz, kind="RF64"),
    "FLAC named wav": lambda hz: tone(hz, kind="FLAC"),
    "RIFF size 0": sized(4, 0),
    "RIFF size too small": sized(4, 100),
    "RIFF size too large": sized(4, 10**8),
    "data size 0": sized(40, 0),
    "data size too large": sized(40, 10**8),
    "data size of a stream": sized(40, 0xFFFFFFFF),
    # Names: what is in such a file is read like any other.
    "a space": tone,
    "'single' and \"double\" quotes": tone,
    "new\nline": tone,
    os.fsdecode(b"no UTF-8 \xff\xe4"): tone,
    "%41 #1 $HOME": tone,
    "-rf": tone,
}
# Every tone its own, so that no two files hold the same and each can be told in its pack.
HERTZ = {name: 400.0 + 80 * i for i, name in enumerate(READ)}
NOT_READ = {
    "zero bytes": (b"", r"^empty file \(0 bytes\)$"),
    "silence": (odd_wav.wav(sound=bytes(2 * RATE)), "^silent: every sample is zero$"),
    "silence in 24 bits and two channels": (tone(0, "PCM_24", 2), "^silent: every sample is zero$"),
    "one constant value": (odd_wav.wav(sound=b"\x10\x20" * RATE), "^silent: every sample has the same value$"),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Outcome:
    files = {f"{name}.wav": make(HERTZ[name]) for name, make in READ.items()} | {"RIFX.wav": odd_wav.SAME["RIFX (big-endian)"]}
    files |= {f"{name}.wav": data for name, (data, _) in NOT_READ.items()} | {f"sound{i}.wav": tone(150 + 20 * i) for i in range(3)}
    return through(root_of(tmp_path_factory.mktemp("recordings"), files), AUDIO)


@pytest.mark.parametrize("name", READ)
def test_a_recording_is_read_and_its_tone_is_in_the_pack(recordings: Outcome, name: str) -> None:
    recordings.decision(f"{name}.wav", None)
    assert loudest(recordings, f"{name}.wav") == pytest.approx(HERTZ[name], rel=0.06)


def test_rifx_is_read(recordings: Outcome) -> None:
    recordings.decision("RIFX.wav", None)
    assert loudest(recordings, "RIFX.wav") == pytest.approx(0.3 * RATE / (2 * np.pi), rel=0.1)  # the tone of odd_wav


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_no_sound_is_refused(recordings: Outcome, name: str) -> None:
    recordings.decision(f"{name}.wav", NOT_READ[name][1])
