"""A recording and the MIDI file of the same performance, with the scores that listeners gave it.

One annotation row is one sample: `fields` of the dataset name the keys of the row that hold the audio path, the MIDI
path (both below the root) and the scores (an object of numbers, or a list of them).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trainyard.config.features import PairedFeatures
from trainyard.data.audio import clip_features, frame_count
from trainyard.data.midi_file import Score, read_score
from trainyard.data.predictions import PartOutput
from trainyard.data.refused import Refused
from trainyard.data.rules import look_up

LARGEST = float(np.finfo(np.float32).max)
FIELDS = {"audio": "audio", "midi": "midi", "scores": "scores"}
NOTE_COLUMNS = ("pitch", "velocity", "since_previous", "duration", "pedal")


class PairedReader:
    """Turns one annotation row into the fields of a pack.

    mel float16 (frames, mels) and frames int32 as in audio, from the start of the recording; notes float32
    (notes, 5), zeros behind the last, and note_count int32; scores float32 (dims,). A note is its MIDI pitch, its
    velocity, seconds since the note before, seconds held, and the share of the time until the next note in which the
    sustain pedal is down.
    """

    def __init__(self, features: PairedFeatures, root: Path, context: dict):
        self.features = features
        self.fields = {**FIELDS, **(context.get("fields") or {})}
        self.names: list[str] | None = context.get("target_names")

    @classmethod
    def prepare(cls, samples: Iterable[dict], context: dict) -> dict:
        """What must be known before the first file is read: the names of the scores, from the first row that has any."""
        key = (context.get("fields") or {}).get("scores", FIELDS["scores"])
        for sample in samples:
            scores = look_up(sample.get("extra"), key)
            if isinstance(scores, (dict, list)) and scores:
                return {"target_names": score_names(scores)}
        return {"target_names": []}

    def files(self, sample: dict) -> list[str]:
        paths = [look_up(sample.get("extra"), self.fields[kind]) for kind in ("audio", "midi")]
        for kind, path in zip(("audio", "midi"), paths):
            if not isinstance(path, str) or not path:
                raise Refused(f"its annotation names no {kind} file (field '{self.fields[kind]}')")
        return paths

    def read(self, blobs: list[bytes], sample: dict) -> tuple[dict, dict]:
        """Raises Refused for a row or file that cannot be used; the message says which of the two files."""
        scores = self._scores(look_up(sample.get("extra"), self.fields["scores"]))
        notes, count = note_features(blobs[1], self.features.notes)
        try:
            mel, _, frames = clip_features(blobs[0], self.features, middle=False)
        except Refused as reason:
            raise Refused(f"audio: {reason}") from None
        return {"mel": mel, "frames": np.int32(frames), "notes": notes, "note_count": np.int32(count), "scores": scores}, {}

    def sample_bytes(self) -> int:
        """Bytes of a packed pair, at the least."""
        return 2 * frame_count(self.features) * self.features.mels + 4 * self.features.notes * len(NOTE_COLUMNS)

    def meta(self) -> dict:
        return {
            "frames": frame_count(self.features),
            "mels": self.features.mels,
            "target_names": self.names or [],
            "note_columns": list(NOTE_COLUMNS),
        }

    def _scores(self, value) -> np.ndarray:
        if not isinstance(value, (dict, list)) or not value:
            raise Refused(f"its annotation has no scores (field '{self.fields['scores']}')")
        if self.names is None:
            self.names = score_names(value)
        if isinstance(value, list):
            if len(value) != len(self.names):
                raise Refused(f"{len(value)} scores where other rows have {len(self.names)}")
            value = dict(zip(self.names, value))
        for name in self.names:
            number = value.get(name)
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) <= LARGEST:
                raise Refused(f"score '{name}' is {'missing' if number is None else f'not a number: {number!r}'}")
        return np.array([value[name] for name in self.names], np.float32)


def score_names(scores: dict | list) -> list[str]:
    return [str(name) for name in scores] if isinstance(scores, dict) else [f"score_{i + 1}" for i in range(len(scores))]


def note_features(data: bytes, limit: int) -> tuple[np.ndarray, int]:
    """The first `limit` notes of a MIDI file that are not drums, (limit, 5) float32 by onset and pitch, and their number."""
    try:
        score = read_score(data, pedal=True)
    except Refused as reason:
        raise Refused(f"midi: {reason}") from None
    mine = ~np.array([t.drum for t in score.tracks], bool)[score.track]
    if not mine.any():
        raise Refused("midi: it has no notes")
    start, length, pitch, velocity = score.notes[:, mine]
    order = np.lexsort((pitch, start))[: limit + 1]
    time, end = score.seconds(start[order]), score.seconds((start + length)[order])
    until = np.append(time[1:], end[-1])
    down = _time_down(score, np.concatenate([time, until]))
    gap = np.maximum(until - time, 1e-3)
    pedal = np.clip((down[len(time) :] - down[: len(time)]) / gap, 0, 1)
    rows = np.stack([pitch[order], velocity[order], np.diff(time, prepend=time[0]), end - time, pedal], 1)[:limit]
    notes = np.zeros((limit, len(NOTE_COLUMNS)), np.float32)
    notes[: len(rows)] = rows
    return notes, len(rows)


def _time_down(score: Score, at: np.ndarray) -> np.ndarray:
    """Seconds that the sustain pedal (down from 64 on) has been down before each time of `at`, (len(at),)."""
    tick, value = np.concatenate([t.pedal for t in score.tracks if not t.drum], 1)
    events = sorted(zip(score.seconds(tick).tolist(), (value >= 64).tolist()))
    times, total, since = [0.0], [0.0], None
    for time, pressed in events:
        if pressed and since is None:
            since = time
        elif not pressed and since is not None:
            times += [since, time]
            total += [total[-1], total[-1] + time - since]
            since = None
    if since is not None:
        end = max(float(at.max()), since)
        times += [since, end]
        total += [total[-1], total[-1] + end - since]
    return np.interp(at, times, total)


def score_parts(target: np.ndarray, predicted: np.ndarray, names: list[str]) -> dict[str, PartOutput]:
    """target and predicted (n, dims) as parts: "scores" for all dimensions together, then one for each by its name."""
    parts = {"scores": PartOutput.values(list(target), list(predicted))}
    return parts | {name: PartOutput.values(list(target[:, i]), list(predicted[:, i])) for i, name in enumerate(names)}
