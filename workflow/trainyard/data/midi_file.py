"""A MIDI file's bytes → tracks of notes, tempos and meters in ticks; or a plain reason why not.

symusic reads (https://github.com/Yikai-Liao/symusic), with note ends as pretty_midi has them (midi_pairs.py); pretty_midi
(https://craffel.github.io/pretty-midi) reads what symusic does not. The format: "Standard MIDI Files 1.0",
https://midi.org/standard-midi-files
"""

import io
import re
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainyard.data.midi_pairs import as_pretty_midi
from trainyard.data.refused import Refused

# Rows of a score's notes.
TICK, LENGTH, PITCH, VELOCITY = range(4)
SUSTAIN = 64  # controller number of the pedal


@dataclass(slots=True)
class Track:
    """What plays some of the notes. `pedal` (2, k) int64: ticks and values of its sustain pedal, where it was asked for."""

    drum: bool
    program: int
    name: str
    pedal: np.ndarray


@dataclass(slots=True)
class Score:
    """A song.

    `quarter`: ticks a quarter note; notes (4, n) int64: start tick, length in ticks (at least 1), pitch, velocity, track after
    track, each in the order of its starts; track (n,) int64: which of `tracks` plays a note; tempos (2, k) float64: ticks,
    quarters a minute; meters: tick, beats and beat unit of each.
    """

    quarter: int
    notes: np.ndarray
    track: np.ndarray
    tracks: tuple[Track, ...]
    tempos: np.ndarray
    meters: list[tuple[int, int, int]]

    def seconds(self, ticks: np.ndarray) -> np.ndarray:
        """The times of ticks, by the tempos; 120 quarters a minute before the first."""
        good = self.tempos[:, self.tempos[1] > 0]
        at, tempo = np.append(0.0, good[0]), np.append(120.0, good[1])
        scale = 60.0 / (tempo * self.quarter)
        begin = np.append(0.0, np.cumsum(np.diff(at) * scale[:-1]))
        part = np.searchsorted(at, ticks, "right") - 1
        return begin[part] + (ticks - at[part]) * scale[part]


# What symusic says, and what it means.
PLAIN = (
    (r"Get (\w+)=(-?\d+)", r"it holds a \1 of \2, which MIDI does not have"),
    (r"Invalid chunk length (\d+) \(remaining bytes after header: (\d+)\)", r"a track claims \1 bytes, \2 are left: cut off or damaged"),
    (r"Unexpected running status.*", "damaged: data where an event must begin"),
    (r"Unexpected EOF.*", "cut off in the middle of an event"),
    (r"Unknown or unsupported status byte: (.*)", r"damaged: the status byte \1 does not exist in a file"),
)
NO_NOTES = np.zeros(0, np.int32)
NO_PEDAL = np.zeros((2, 0), np.int64)


def read_score(data: bytes, pedal: bool = False) -> Score:
    """Decode a Standard MIDI File of type 0, 1 or 2. Raises Refused with a reason for people.

    A type 2 file holds tracks that are patterns of their own: they are laid end to end, each from a new bar.
    """
    data = _unwrap(data)
    kind = _check_header(data)
    if kind == 2:
        singles = _single_tracks(data)
        if not singles:
            raise Refused("it has no track")
        return _end_to_end([_decode(single, pedal) for single in singles])
    return _decode(data, pedal)


def _unwrap(data: bytes) -> bytes:
    """The MIDI file inside a RIFF (.rmi) wrapper; other bytes as they are."""
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        return data[max(data.find(b"MThd"), 0) :]
    return data


def _check_header(data: bytes) -> int:
    """The file's type 0, 1 or 2. What a few bytes can tell is refused here, before any parser sees the file."""
    if not data:
        raise Refused("the file is empty")
    if data[:8] == b"SMF2CLIP":
        raise Refused("a MIDI 2.0 clip file; export it as a standard MIDI file (.mid)")
    if data[:4] != b"MThd":
        raise Refused(f"not a MIDI file: it begins with {data[:4]!r}, not with MThd")
    if len(data) < 14:
        raise Refused(f"cut off inside its header ({len(data)} bytes)")
    kind, division = int.from_bytes(data[8:10]), int.from_bytes(data[12:14])
    if kind > 2:
        raise Refused(f"MIDI file type {kind} does not exist (0, 1 and 2 do)")
    if division >> 15:
        raise Refused("its time is counted in SMPTE frames, not in beats; export it with ticks per quarter note")
    if division == 0:
        raise Refused("its header claims 0 ticks per quarter note")
    if b"MTrk" not in data:
        raise Refused("it has no track")
    return kind


def _single_tracks(data: bytes) -> list[bytes]:
    """Each track of a type 2 file as a file of its own (type 0)."""
    out, at = [], 8 + int.from_bytes(data[4:8])
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8])
        if data[at : at + 4] == b"MTrk":
            out.append(b"MThd" + (6).to_bytes(4) + (0).to_bytes(2) + (1).to_bytes(2) + data[12:14] + data[at:end])
        at = end
    return out


def _end_to_end(scores: list[Score]) -> Score:
    """Scores one after the other, each beginning at a full bar of 4/4."""
    bar, shift, parts = 4 * scores[0].quarter, 0, []
    tracks: list[Track] = []
    meters: list[tuple[int, int, int]] = []
    for score in scores:
        parts.append((_later(score.notes, shift), _later(score.tempos, shift), score.track + len(tracks)))
        meters += [(tick + shift, beats, unit) for tick, beats, unit in score.meters]
        tracks += [replace(t, pedal=_later(t.pedal, shift)) for t in score.tracks]
        end = int((score.notes[TICK] + score.notes[LENGTH]).max(initial=0))
        shift += -(-end // bar) * bar
    notes, tempos, track = (np.concatenate(column, -1) for column in zip(*parts))
    return Score(scores[0].quarter, notes, track, tuple(tracks), tempos, meters)


def _later(rows: np.ndarray, ticks: int) -> np.ndarray:
    """Rows of which the first holds ticks, that much later."""
    return np.concatenate([rows[:1] + ticks, rows[1:]])


def _decode(data: bytes, pedal: bool) -> Score:
    reason = ""
    try:
        score = _symusic(data, pedal)
    except ImportError:
        score = None
    except (RuntimeError, ValueError) as error:
        score = None
        reason = _plain(str(error))
    if score is None:
        try:
            score = _pretty_midi(data)
        except Exception as error:  # mido raises whatever a broken file leads it to
            raise Refused(f"cannot be decoded: {reason or error or type(error).__name__}") from None
    if score.notes[: LENGTH + 1].min(initial=0) < 0:
        raise Refused("its times overflow: more ticks than any music has")
    return score


def _plain(error: str) -> str:
    reason = error.removeprefix("MiniMidi: ").removesuffix(": iostream error").strip()
    for words, plain in PLAIN:
        if found := re.fullmatch(words, reason):
            return found.expand(plain)
    return reason


def _symusic(data: bytes, pedal: bool) -> Score | None:
    """The score as symusic reads it, note ends apart; None where these cannot be told from its pairs."""
    import symusic

    score: Any = symusic.Score.from_midi(data)  # its stubs hide the attributes
    found = [t for t in _each(score.tracks) if len(t.notes)]
    parts = [t.notes.numpy() for t in found]
    counts = [len(part["time"]) for part in parts]
    columns = [part[row] for row in ("time", "duration", "pitch", "velocity") for part in parts]
    notes = np.concatenate([NO_NOTES, *columns], dtype=np.int64).reshape(4, -1)
    read = as_pretty_midi(notes, np.arange(len(parts)).repeat(counts))
    if read is None:
        return None
    tracks = tuple(Track(bool(t.is_drum), int(t.program), t.name, _pedal(t) if pedal else NO_PEDAL) for t in found)
    tempos = score.tempos.numpy()
    speeds = np.empty((2, len(tempos["time"])))
    speeds[0], speeds[1] = tempos["time"], 6e7 / np.maximum(tempos["mspq"], 1)
    meters = [(m.time, m.numerator, m.denominator) for m in _each(score.time_signatures)]
    return Score(int(score.tpq), *read, tracks, speeds, meters)


def _each(events: Any) -> list:
    """The members of a list of symusic, by number: its iterators end with a C++ exception, which takes longer than a short list."""
    return [events[i] for i in range(len(events))]


def _pedal(track: Any) -> np.ndarray:
    events = track.controls.numpy()
    mine = events["number"] == SUSTAIN
    return np.stack([events["time"][mine], events["value"][mine]]).astype(np.int64)


def _pretty_midi(data: bytes) -> Score:
    import pretty_midi

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        song = pretty_midi.PrettyMIDI(io.BytesIO(data))
    tick = song.time_to_tick
    found = [i for i in song.instruments if i.notes]
    rows = [
        (k, tick(n.start), tick(n.end) - tick(n.start), n.pitch, n.velocity) for k, instrument in enumerate(found) for n in instrument.notes
    ]
    columns = np.array(sorted(rows), np.int64).reshape(-1, 5).T
    pedals = [[(tick(c.time), c.value) for c in i.control_changes if c.number == SUSTAIN] for i in found]
    tracks = tuple(Track(i.is_drum, int(i.program), i.name, np.array(p, np.int64).reshape(-1, 2).T) for i, p in zip(found, pedals))
    tempos = [(tick(t), bpm) for t, bpm in zip(*song.get_tempo_changes())]
    meters = [(int(tick(m.time)), m.numerator, m.denominator) for m in song.time_signature_changes]
    return Score(song.resolution, columns[1:], columns[0], tracks, np.array(tempos, np.float64).reshape(-1, 2).T, meters)
