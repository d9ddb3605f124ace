"""What this machine has: memory, and decoders that work. Needs no torch."""

import io
import os
import struct
import sys
import wave
from typing import Any

from trainyard.train.check import Check, fail, ok, warn

AUDIO, MIDI = ("audio", "paired"), ("midi", "paired")


def available_memory_mb() -> float | None:
    """MB that this process may come to use: what is free, what it holds already, and no more than its control group allows."""
    from trainyard.train.progress import peak_memory_mb

    free = _meminfo()
    if free is None:
        try:
            free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
        except (ValueError, OSError):
            return None
        return free
    there = free + peak_memory_mb()
    limit = _cgroup_limit()
    return min(there, limit) if limit is not None else there


def _meminfo() -> float | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(float(line.split()[1]) / 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def _cgroup_limit() -> float | None:
    """Limit of the control group in MB (version 2, then 1), or None."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                value = file.read().strip()
        except OSError:
            continue
        if value.isdigit() and int(value) < 1 << 60:
            return int(value) / 2**20
    return None


def check_decoders(format: str) -> list[Check]:
    """Decode a sound and a song made here, with what the local copy uses."""
    out: list[Check] = []
    if format in AUDIO:
        out.append(_audio())
    if format in MIDI:
        out.append(_midi())
    return out


def _audio() -> Check:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<4h", 0, 16384, -16384, 0))
    try:
        import soundfile

        samples, rate = soundfile.read(io.BytesIO(buffer.getvalue()))
    except (ImportError, OSError, RuntimeError) as error:
        words = " ".join(str(error).split())
        return fail(
            "decoder", f"soundfile does not work: {words}", "soundfile", f"{sys.executable} -m pip install --force-reinstall soundfile"
        )
    if rate != 8000 or samples.tolist() != [0.0, 0.5, -0.5, 0.0]:
        return fail("decoder", "soundfile decodes a WAV wrongly", "exact", f"{sys.executable} -m pip install --force-reinstall soundfile")
    return ok("decoder", f"soundfile {soundfile.__version__} ({soundfile.__libsndfile_version__})", "no fallback")


def _midi() -> Check:
    track = bytes.fromhex("00903c4060803c4000ff2f00")
    song = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", len(track)) + track
    advice = f"{sys.executable} -m pip install --force-reinstall symusic"
    try:
        import symusic

        score: Any = symusic.Score.from_midi(song)
        notes = score.tracks[0].notes
        found = [(int(n.time), int(n.duration), int(n.pitch), int(n.velocity)) for n in notes]
    except Exception as error:
        return warn(
            "midi", f"symusic does not work: {' '.join(str(error).split())}", "symusic", f"MIDI would be read 200 times slower: {advice}"
        )
    if found != [(0, 96, 60, 64)]:
        return fail("midi", f"symusic reads a note as {found}", "exact", advice)
    return ok("midi", f"symusic {getattr(symusic, '__version__', '')}".strip(), "no fallback")
