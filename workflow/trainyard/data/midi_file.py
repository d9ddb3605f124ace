"""A MIDI file's bytes → tracks of notes, tempos and meters in ticks; or a plain reason why not.

symusic reads (https://github.com/Yikai-Liao/symusic); pretty_midi (https://craffel.github.io/pretty-midi) is the
fallback where it does not. The format: "Standard MIDI Files 1.0", https://midi.org/standard-midi-files
"""

import io
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainyard.data.refused import Refused

# Columns of a track's notes.
TICK, LENGTH, PITCH, VELOCITY = range(4)


@dataclass(frozen=True)
class Track:
    """Notes (n, 4) int64: start tick, length in ticks, pitch, velocity; in order of their start."""

    notes: np.ndarray
    drum: bool
    program: int
    name: str


@dataclass(frozen=True)
class Score:
    """A song. `quarter`: ticks a quarter note; tempos (k, 2): tick, quarters a minute; meters (k, 3): tick, beats, beat unit."""

    quarter: int
    tracks: tuple[Track, ...]
    tempos: np.ndarray
    meters: np.ndarray

    @property
    def end(self) -> int:
        """Tick at which the last note ends."""
        return max((int((t.notes[:, TICK] + t.notes[:, LENGTH]).max()) for t in self.tracks if len(t.notes)), default=0)


def read_score(data: bytes) -> Score:
    """Decode a Standard MIDI File of type 0, 1 or 2. Raises Refused with a reason for people.

    A type 2 file holds tracks that are patterns of their own: they are laid end to end, each from a new bar.
    """
    data = _unwrap(data)
    kind = _check_header(data)
    if kind == 2:
        return _end_to_end([_decode(single) for single in _single_tracks(data)])
    return _decode(data)


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
    bar, shift, tracks, tempos, meters = 4 * scores[0].quarter, 0, [], [], []
    for score in scores:
        tracks += [replace(t, notes=_later(t.notes, shift)) for t in score.tracks]
        tempos.append(_later(score.tempos, shift))
        meters.append(_later(score.meters, shift))
        shift += -(-score.end // bar) * bar
    return Score(scores[0].quarter, tuple(tracks), np.concatenate(tempos), np.concatenate(meters))


def _later(rows: np.ndarray, ticks: int) -> np.ndarray:
    """Rows whose first column is a tick, that much later."""
    return np.concatenate([rows[:, :1] + ticks, rows[:, 1:]], 1)


def _decode(data: bytes) -> Score:
    try:
        score = _symusic(data)
    except ImportError:
        score = None
        reason = "symusic is not installed"
    except (RuntimeError, ValueError) as error:
        score = None
        reason = str(error).removeprefix("MiniMidi: ").removesuffix(": iostream error").strip()
    if score is None:
        try:
            score = _pretty_midi(data)
        except Exception as error:  # mido raises whatever a broken file leads it to
            raise Refused(f"cannot be decoded: {reason or error or type(error).__name__}") from None
    if any(len(t.notes) and t.notes[:, : LENGTH + 1].min() < 0 for t in score.tracks):
        raise Refused("its times overflow: more ticks than any music has")
    return score


def _symusic(data: bytes) -> Score:
    import symusic

    score: Any = symusic.Score.from_midi(data)  # its stubs hide the attributes
    tracks = []
    for track in score.tracks:
        columns = track.notes.numpy()
        rows = np.stack([columns[k].astype(np.int64) for k in ("time", "duration", "pitch", "velocity")], 1)
        tracks.append(Track(_ordered(rows), bool(track.is_drum), int(track.program), track.name))
    tempos = [(t.time, t.qpm) for t in score.tempos]
    meters = [(m.time, m.numerator, m.denominator) for m in score.time_signatures]
    return Score(int(score.tpq), tuple(tracks), _rows(tempos, 2, np.float64), _rows(meters, 3, np.int64))


def _pretty_midi(data: bytes) -> Score:
    import pretty_midi

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        song = pretty_midi.PrettyMIDI(io.BytesIO(data))
    tick = song.time_to_tick
    tracks = []
    for instrument in song.instruments:
        notes = [(tick(n.start), tick(n.end) - tick(n.start), n.pitch, n.velocity) for n in instrument.notes]
        tracks.append(Track(_ordered(_rows(notes, 4, np.int64)), instrument.is_drum, int(instrument.program), instrument.name))
    tempos = [(tick(t), bpm) for t, bpm in zip(*song.get_tempo_changes())]
    meters = [(tick(m.time), m.numerator, m.denominator) for m in song.time_signature_changes]
    return Score(song.resolution, tuple(tracks), _rows(tempos, 2, np.float64), _rows(meters, 3, np.int64))


def _rows(rows: list[tuple], width: int, dtype: type) -> np.ndarray:
    return np.array(sorted(rows), dtype).reshape(-1, width)


def _ordered(notes: np.ndarray) -> np.ndarray:
    return notes[np.lexsort((notes[:, PITCH], notes[:, TICK]))]
