"""Recordings with their MIDI files and scores."""

import io
import json

import numpy as np
import pretty_midi
import pytest
from trainyard.config.features import PairedFeatures
from trainyard.data.generate.crescendai import DIMENSIONS, generate
from trainyard.data.paired import PairedReader, note_features, score_parts
from trainyard.data.refused import Refused

FEATURES = PairedFeatures(sample_rate=8000, seconds=2.0, n_fft=512, hop=256, mels=24, notes=16)
FIELDS = {"fields": {"audio": "audio_path", "midi": "midi_path", "scores": "scores"}}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crescendai")
    generate(folder, seed=2, performers=2, pieces=3, seconds=2.0)
    rows = [json.loads(line) for line in (folder / "annotations" / "performances.jsonl").read_text().splitlines()]
    return folder, rows


def midi(notes, pedal=(), drums=False):
    song = pretty_midi.PrettyMIDI(resolution=960)
    track = pretty_midi.Instrument(0, is_drum=drums)
    track.notes = [pretty_midi.Note(*n) for n in notes]
    track.control_changes = [pretty_midi.ControlChange(64, value, time) for time, value in pedal]
    song.instruments.append(track)
    file = io.BytesIO()
    song.write(file)
    return file.getvalue()


def blobs(folder, reader, row):
    return [(folder / name).read_bytes() for name in reader.files({"extra": row})]


def test_a_row_becomes_mel_notes_and_scores(demo):
    folder, rows = demo
    context = FIELDS | PairedReader.prepare([{"extra": r} for r in rows], FIELDS)
    reader = PairedReader(FEATURES, folder, context)
    assert reader.files({"extra": rows[0]}) == [rows[0]["audio_path"], rows[0]["midi_path"]]
    fixed, ragged = reader.read(blobs(folder, reader, rows[0]), {"extra": rows[0]})
    assert fixed["mel"].shape == (63, 24) and fixed["notes"].shape == (16, 5) and not ragged
    assert fixed["note_count"] == 16
    assert fixed["scores"] == pytest.approx(list(rows[0]["scores"].values()), abs=1e-6)
    assert reader.meta()["target_names"] == list(DIMENSIONS)


def test_performers_are_named_and_nothing_repeats(demo):
    folder, rows = demo
    assert [r["performer"] for r in rows] == ["performer001"] * 3 + ["performer002"] * 3
    assert len({(folder / r["audio_path"]).read_bytes() for r in rows}) == 6
    assert all(0 <= s <= 1 for r in rows for s in r["scores"].values())


def test_notes_are_in_natural_units():
    data = midi([(80, 60, 0.5, 1.0), (64, 67, 1.0, 1.25), (64, 64, 1.0, 1.25)], pedal=[(0.75, 127), (1.0, 0)])
    notes, count = note_features(data, 8)
    assert count == 3 and (notes[3:] == 0).all()
    assert notes[0] == pytest.approx([60, 80, 0, 0.5, 0.5], abs=2e-3)
    assert notes[1] == pytest.approx([64, 64, 0.5, 0.25, 0], abs=2e-3)
    assert notes[2] == pytest.approx([67, 64, 0, 0.25, 0], abs=2e-3)


def test_only_the_first_notes_are_kept_and_a_held_pedal_counts():
    data = midi([(80, 60 + i, 0.2 * i, 0.2 * i + 0.1) for i in range(20)], pedal=[(0.0, 127)])
    notes, count = note_features(data, 5)
    assert count == 5 and notes[:, 0].tolist() == [60, 61, 62, 63, 64]
    assert notes[:, 4] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "midi: the file is empty"),
        (b"MThd" * 10, "midi: MIDI file type 19796 does not exist"),
        (midi([]), "no notes"),
        (midi([(80, 40, 0, 1)], drums=True), "no notes"),
    ],
)
def test_bad_midi_is_refused(data, reason):
    with pytest.raises(Refused, match=reason):
        note_features(data, 8)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scores": {"timing": 0.5}}, "score 'articulation' is missing"),
        ({"scores": None}, "no scores"),
        ({"scores": [0.1, 0.2]}, "2 scores where other rows have 7"),
        ({"scores": dict.fromkeys(DIMENSIONS, "good")}, "not a number"),
        ({"scores": dict.fromkeys(DIMENSIONS, float("nan"))}, "not a number"),
        ({"scores": dict.fromkeys(DIMENSIONS, 1e300)}, "not a number: 1e\\+300"),
        ({"scores": dict.fromkeys(DIMENSIONS, 10**400)}, "not a number"),
        ({"midi_path": 3}, "names no midi file"),
    ],
)
def test_bad_rows_are_refused(demo, change, reason):
    folder, rows = demo
    reader = PairedReader(FEATURES, folder, FIELDS | {"target_names": list(DIMENSIONS)})
    with pytest.raises(Refused, match=reason):
        reader.files({"extra": rows[0] | change})
        reader.read(blobs(folder, reader, rows[0]), {"extra": rows[0] | change})


def test_a_bad_recording_says_that_it_is_the_audio(demo):
    folder, rows = demo
    reader = PairedReader(FEATURES, folder, FIELDS)
    with pytest.raises(Refused, match="^audio: not a recording"):
        reader.read([b"RIFF nothing", blobs(folder, reader, rows[0])[1]], {"extra": rows[0]})


def test_scores_may_be_nested_or_a_list():
    row = {"extra": {"rating": {"values": [0.25, 0.5]}}}
    context = {"fields": {"scores": "rating.values"}}
    assert PairedReader.prepare([{"extra": None}, row], context) == {"target_names": ["score_1", "score_2"]}


def test_parts_are_all_scores_first_then_each():
    target, predicted = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.5, 2.5], [3.5, 4.5]])
    parts = score_parts(target, predicted, ["tone", "tempo"])
    assert list(parts) == ["scores", "tone", "tempo"]
    assert parts["scores"].target[1].tolist() == [3.0, 4.0] and parts["tempo"].prediction[0].tolist() == [2.5]
