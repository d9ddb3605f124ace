"""Notes of a MIDI file: those of pretty_midi, in ticks and in seconds, and where they differ on purpose."""

import io
import warnings
from collections import Counter

import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_midi import events, midi
from trainyard.data.generate import lakh
from trainyard.data.midi_file import LENGTH, PITCH, TICK, VELOCITY, _symusic, read_score


def notes(score):
    rows = [score.notes[TICK], score.notes[TICK] + score.notes[LENGTH], score.notes[PITCH], score.notes[VELOCITY]]
    drums = [score.tracks[k].drum for k in score.track]
    return Counter(zip(*(row.tolist() for row in rows), drums))


def reference(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        song = pretty_midi.PrettyMIDI(io.BytesIO(data))
    tick = song.time_to_tick
    return Counter((int(tick(n.start)), int(tick(n.end)), n.pitch, n.velocity, i.is_drum) for i in song.instruments for n in i.notes)


# Few pitches and few ticks, so that notes of one pitch overlap, meet, and begin together.
song = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15), st.sampled_from([60, 61]), st.integers(1, 127)), min_size=1, max_size=14)


@settings(max_examples=300, deadline=None)
@given(song, st.integers(0, 1))
def test_overlapping_notes_end_as_in_pretty_midi(rows, drums):
    """Note-offs before note-ons of the same tick, as writers do: each note has its own note-off."""
    offs = [(start + length, 0, "off", pitch, 0) for start, length, pitch, _ in rows]
    ons = [(start, 1, "on", pitch, velocity) for start, _, pitch, velocity in rows]
    data = midi(events([(tick, kind, p, v) for tick, _, kind, p, v in sorted(offs + ons)], channel=9 * drums))
    assert _symusic(data, False) is not None
    assert notes(read_score(data)) == reference(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([60, 61])), min_size=2, max_size=16))
def test_any_order_of_note_ons_and_offs_gives_no_note_that_pretty_midi_does_not_begin(rows):
    ticks = np.cumsum([row[0] for row in rows]).tolist()
    data = midi(events([(t, "on" if on else "off", p, 64 + i if on else 0) for i, (t, (_, on, p)) in enumerate(zip(ticks, rows))]))
    mine = {(start, pitch, velocity) for start, _, pitch, velocity, _ in notes(read_score(data))}
    begun = {(t, p, 64 + i) for i, (t, (_, on, p)) in enumerate(zip(ticks, rows)) if on}
    assert mine <= begun
    assert all(end > start for start, end, *_ in notes(read_score(data)))


@pytest.mark.parametrize("seed", range(4))
def test_generated_songs_have_pretty_midis_notes_and_seconds(seed):
    data = lakh.encode(lakh.compose(np.random.default_rng(seed), 16))
    score = read_score(data)
    assert notes(score) == reference(data)
    theirs = sorted(n.start for i in pretty_midi.PrettyMIDI(io.BytesIO(data)).instruments for n in i.notes)
    assert np.allclose(np.sort(score.seconds(score.notes[TICK])), theirs, atol=1e-9)


def test_notes_without_length_are_dropped():
    data = midi(events([(0, "on", 60, 80), (0, "off", 60, 0), (5, "on", 61, 80), (9, "off", 61, 0)]))
    assert notes(read_score(data)) == reference(data) == Counter([(5, 9, 61, 80, False)])


def test_notes_without_length_among_overlapping_ones_are_left_to_pretty_midi():
    rows = [(0, "on", 60, 80), (2, "on", 60, 81), (4, "on", 60, 82), (4, "off", 60, 0), (4, "off", 60, 0), (4, "off", 60, 0)]
    data = midi(events(rows))
    assert _symusic(data, False) is None
    assert notes(read_score(data)) == reference(data)


def test_a_note_begun_twice_and_ended_once_is_kept_once():
    """pretty_midi counts it twice: one sound is one note."""
    data = midi(events([(0, "on", 60, 80), (5, "on", 60, 90), (10, "off", 60, 0)]))
    assert notes(read_score(data)) == Counter([(0, 10, 60, 80, False)])
    assert reference(data) == Counter([(0, 10, 60, 80, False), (5, 10, 60, 90, False)])


def test_tempos_count_in_whichever_track_they_are():
    """pretty_midi reads those of the first track alone, and warns that its times may be wrong."""
    slow = b"\x00\xff\x51\x03\x0f\x42\x40"  # a second a quarter
    data = midi(b"", slow + events([(96, "on", 60, 80), (192, "off", 60, 0)]), kind=1)
    score = read_score(data)
    assert score.seconds(score.notes[TICK]).tolist() == [1.0]


def test_seconds_follow_the_tempo_map():
    half = lambda delay: bytes([delay]) + b"\xff\x51\x03\x0f\x42\x40"  # noqa: E731
    data = midi(half(96) + events([(96, "on", 60, 80), (192, "off", 60, 0)]))
    score = read_score(data)
    assert np.allclose(score.seconds(np.array([0, 48, 96, 192])), [0, 0.25, 0.5, 1.5])


def test_the_pedal_is_read_where_it_is_asked_for():
    data = midi(b"\0\xb0\x40\x7f" + events([(10, "on", 60, 80), (20, "off", 60, 0)]) + b"\x05\xb0\x40\0")
    assert read_score(data, pedal=True).tracks[0].pedal.tolist() == [[0, 25], [127, 0]]
    assert read_score(data).tracks[0].pedal.shape == (2, 0)
