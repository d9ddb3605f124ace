"""Songs from MIDI: what the reader makes of generated, odd and broken files."""

import math
import struct
import sys
from fractions import Fraction

import numpy as np
import odd_midi
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_midi import midi, note, variable
from trainyard.config.features import MidiFeatures
from trainyard.data.generate import lakh
from trainyard.data.midi import DRUM_CLASS, DURATIONS, LOWEST, NO_CHORD, OFFSET_UNIT, PITCHES, MidiReader
from trainyard.data.midi_file import read_score
from trainyard.data.midi_grid import bar_grid
from trainyard.data.refused import Refused


def read(data, **features):
    return MidiReader(MidiFeatures(**features), None, {}).read([data], {"path": "x.mid"})[1]


def song(seed, bars=16):
    return lakh.compose(np.random.default_rng(seed), bars)


@pytest.mark.parametrize("seed", range(6))
def test_melody_and_drums_are_those_that_pretty_midi_reads(seed, tmp_path):
    (tmp_path / "a.mid").write_bytes(lakh.encode(song(seed)))
    reference = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid"))
    step = 15 / reference.get_tempo_changes()[1][0]
    fields = read((tmp_path / "a.mid").read_bytes())
    notes = sorted(reference.instruments[0].notes, key=lambda n: n.start)
    melody = fields["melody"]
    assert (melody[:, 0] + LOWEST).tolist() == [n.pitch for n in notes]
    assert [DURATIONS[d] for d in melody[:, 1]] == [min(DURATIONS, key=lambda d: abs(d - (n.end - n.start) / 0.95 / step)) for n in notes]
    assert melody[:, 2].tolist() == [round(n.start / step) % 16 for n in notes]
    drums = next(i for i in reference.instruments if i.is_drum).notes
    found = {(int(s), int(d)): (int(v), o / OFFSET_UNIT) for s, d, v, o in fields["hits"]}
    for n in drums:
        place = round(n.start / step)
        velocity, offset = found[place, int(DRUM_CLASS[n.pitch])]
        assert velocity >= n.velocity  # the louder of two hits on one place stays
        assert velocity > n.velocity or abs(offset - (n.start / step - place)) < 0.02


def test_chords_are_those_the_song_was_made_of():
    right = total = 0
    for seed in range(12):
        made = song(seed)
        chords = read(lakh.encode(made))["chords"]
        degrees = [int(c) for c in chords[: len(made.chords)]]
        right += sum(a == b for a, b in zip(degrees, made.chords))
        total += len(made.chords)
    assert right / total > 0.9


def test_chroma_is_the_share_of_sounding_time():
    # A bar: C for a quarter, E for three. Then silence, then G over the bar line.
    data = midi(note(60, 0, 96) + note(64, 0, 288) + note(67, 384 + 192, 384))
    fields = read(data)
    chroma = fields["chroma"].astype(float)
    assert np.allclose(chroma[0, [0, 4]], [0.25, 0.75], atol=1e-3)
    assert not chroma[1].any() and fields["chords"][1] == NO_CHORD
    assert np.allclose(chroma[2, 7], 1) and np.allclose(chroma[3, 7], 1)


def test_melody_is_found_without_names_and_is_the_highest_line():
    lead = note(72, 0, 48) + b"".join(note(p, 0, 48) for p in (74, 76, 77, 79, 77, 76, 74) * 3)
    chords = b"".join(
        b"".join(b"\x00" + bytes([0x91, p, 60]) for p in (48, 52, 55)) + variable(384) + bytes([0x81, 48, 0]) for _ in range(3)
    )
    chords += b"".join(b"\x00" + bytes([0x81, p, 0]) for p in (52, 55))
    fields = read(midi(chords, lead, kind=1))
    assert (fields["melody"][:8, 0] + LOWEST).tolist() == [72, 74, 76, 77, 79, 77, 76, 74]


def test_pretty_midi_reads_what_symusic_reads(monkeypatch):
    data = lakh.encode(song(3))
    with_symusic = read(data)
    monkeypatch.setitem(sys.modules, "symusic", None)
    without = read(data)
    for field in ("melody", "chords", "hits"):
        assert np.array_equal(with_symusic[field], without[field]), field
    assert np.allclose(with_symusic["tempo"], without["tempo"])


def test_a_song_may_lack_drums_or_melody():
    only_melody = read(midi(b"".join(note(60 + k) for k in range(12))))
    assert len(only_melody["melody"]) == 12 and only_melody["hits"].shape == (0, 4)
    only_drums = read(midi(b"".join(note(36, channel=9) for _ in range(8))))
    assert len(only_drums["hits"]) == 8 and only_drums["melody"].shape == (0, 3)
    assert (only_drums["chords"] == NO_CHORD).all()


def test_tracks_of_a_type_2_file_follow_each_other():
    line = b"".join(note(60 + k) for k in range(10))
    together = read(midi(line, line, kind=1))
    apart = read(midi(line, line, kind=2))
    assert len(apart["tempo"]) == 2 * len(together["tempo"]) == 2
    assert apart["chroma"][0].tolist() == apart["chroma"][1].tolist()


def test_a_beat_played_early_belongs_to_the_bar_it_opens():
    # A quarter of a step before the second bar (24 ticks a step).
    fields = read(midi(note(36, 0, 1, channel=9) + note(36, 384 - 6 - 1, 1, channel=9)))
    assert fields["hits"][:, 0].tolist() == [0, 16]
    assert fields["hits"][1, 3] == pytest.approx(-0.25 * OFFSET_UNIT, abs=1)


@given(
    st.sampled_from([1, 2, 3, 24, 96, 100, 220, 480, 32767]),
    st.sampled_from([(4, 4), (3, 4), (7, 8), (9, 8), (5, 16), (5, 4), (1, 4)]),
    st.lists(st.integers(0, 200), min_size=1, max_size=40),
    st.integers(1, 30),
)
def test_places_are_the_nearest_grid_points_whatever_the_bars_are(quarter, meter, eighths, max_bars):
    """In eighths of a step, so that there are places halfway between two: those go to the even one, and to the bar behind."""
    ticks = [e * quarter // 32 for e in eighths]
    beats, unit = meter
    form = bytes((0, 0xFF, 0x58, 4, beats, unit.bit_length() - 1, 24, 8))
    grid = bar_grid(read_score(midi(form + note(60, 0, max(ticks) + 1), division=quarter)), max_bars)
    length, step = Fraction(4 * quarter * beats, unit), Fraction(quarter, 4)
    while length > 4 * quarter:
        length /= 2
    size, bars = math.ceil(length / step), len(grid.steps)
    inside = sorted({t for t in ticks if t < grid.end})
    places = grid.locate(np.array(inside, np.int64))
    for tick, bar, at, count in zip(inside, places.bar, places.step, places.count):
        expected = min(int((tick + step / 2) // length), bars - 1)
        assert bar == expected
        assert at == min(max(round((tick - expected * length) / step), 0), size - 1)
        assert count == bar * size + at


def test_chroma_of_notes_that_sound_on_into_other_bars():
    data = midi(note(60, 0, 16 * 96) + note(64, 0, 96))  # four bars of C, then a beat of E
    fields = read(data)
    assert fields["chroma"][:, 0].tolist() == [1, 1, 1, 1, 0] and fields["chroma"][4, 4] == 1
    assert fields["chords"].tolist()[:4] == fields["chords"].tolist()[:1] * 4


def test_bars_follow_the_time_signature():
    waltz = b"\x00\xff\x58\x04\x03\x02\x18\x08" + b"".join(note(60 + k % 5, 0, 96) for k in range(12))
    fields = read(midi(waltz))
    assert len(fields["tempo"]) == 4  # 12 quarters in bars of three
    assert fields["melody"][:, 2].tolist() == [0, 4, 8] * 4
    twelve_eight = b"\x00\xff\x58\x04\x0c\x03\x18\x08" + note(60, 0, 576)
    assert len(read(midi(twelve_eight))["tempo"]) == 2  # 24 steps do not fit 16: the bar is halved


@pytest.mark.parametrize("name", odd_midi.REFUSED)
def test_broken_files_are_refused_with_a_reason(name):
    data, reason = odd_midi.REFUSED[name]
    with pytest.raises(Refused, match=reason):
        read(data)


@pytest.mark.parametrize("name", odd_midi.ACCEPTED)
def test_odd_files_with_sound_notes_are_read(name):
    melody = read(odd_midi.ACCEPTED[name])["melody"]
    assert set(range(60, 72)) <= set((melody[:, 0] + LOWEST).tolist())


def test_nonsense_in_a_sound_file_does_no_harm():
    meter_of_nothing, tempo_of_nothing = b"\x00\xff\x58\x04\x00\xff\x18\x08", b"\x00\xff\x51\x03\x00\x00\x00"
    fields = read(midi(meter_of_nothing + tempo_of_nothing + b"".join(note(60 + k) for k in range(9))))
    assert len(fields["melody"]) == 9
    assert fields["tempo"].tolist() == [120.0]
    never_ending = read(midi(b"".join(note(60 + k) for k in range(9)) + note(72, 0, 0x0FFFFFFF)), max_bars=64)
    assert len(never_ending["tempo"]) == 64
    wrapped = midi(b"".join(note(60 + k) for k in range(9)))
    riff = b"RIFF" + struct.pack("<I", len(wrapped) + 12) + b"RMIDdata" + struct.pack("<I", len(wrapped)) + wrapped
    assert len(read(riff)["melody"]) == 9


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(14, 400))
def test_damaged_bytes_are_decoded_or_refused(seed, changes, cut):
    rng = np.random.default_rng(seed)
    data = bytearray(midi(b"".join(note(40 + k, k % 3 * 24, 24, k % 2 * 9) for k in range(40))))
    for at in rng.integers(14, len(data), changes):
        data[at] = rng.integers(256)
    try:
        fields = read(bytes(data[: max(cut, len(data) - cut)]))
    except Refused as error:
        assert len(str(error)) > 5
        return
    assert ((fields["melody"][:, 0] >= 0) & (fields["melody"][:, 0] < PITCHES)).all()
    assert ((fields["melody"][:, 2] >= 0) & (fields["melody"][:, 2] < 16)).all()
    assert (abs(fields["hits"][:, 3]) <= OFFSET_UNIT / 2).all()
    assert len(fields["chords"]) == len(fields["chroma"]) == len(fields["tempo"]) <= 512


def test_generated_files_are_named_by_their_md5_and_depend_on_the_seed_alone(tmp_path):
    import hashlib

    lakh.generate(tmp_path / "a", songs=3, bars=4, broken=1)
    lakh.generate(tmp_path / "b", songs=3, bars=4, broken=1)
    lakh.generate(tmp_path / "c", songs=3, bars=4, broken=1, seed=1)
    files = {k: sorted(p.relative_to(tmp_path / k) for p in (tmp_path / k).rglob("*.mid")) for k in "abc"}
    assert files["a"] == files["b"] and not set(files["a"]) & set(files["c"])
    refused = 0
    for path in files["a"]:
        data = (tmp_path / "a" / path).read_bytes()
        assert path.stem == hashlib.md5(data).hexdigest() and path.parts[:2] == ("lmd_full", path.stem[0])
        try:
            read_score(data)
        except Refused:
            refused += 1
    assert refused == 1 and len(files["a"]) == 4
