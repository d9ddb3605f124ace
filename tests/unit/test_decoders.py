"""Decoders are tried on real small files; a broken or slow one is named, with what to do."""

import sys
import time

import pytest
from trainyard.data import midi_file, recording
from trainyard.data.walk import SUFFIXES
from trainyard.train import decoders
from trainyard.train.decoders import CONTAINERS, check_decoders, kinds_of


def found(kinds: list[str], name: str):
    return next(c for c in check_decoders(kinds) if c.check == name)


def test_every_decoder_here_works() -> None:
    checks = check_decoders([*CONTAINERS, ".mid", ".npz"])
    assert [(c.check, c.verdict) for c in checks] == [(n, "ok") for n in ("audio", "resampler", "midi", "video")]
    assert all(c.machine for c in checks) and "FLAC" in checks[0].value and "symusic" in checks[2].value


def test_kinds_are_those_of_the_files_or_the_usual_ones() -> None:
    assert kinds_of("audio", ["a/b.FLAC", "c.mp3", "notes.txt"]) == [".flac", ".mp3"]
    assert kinds_of("audio") == [".wav"] and kinds_of("paired", ["a.ogg"]) == [".mid", ".ogg"]
    assert kinds_of("audio", ["a.opus", "b.AU", "c.wave"]) == [".au", ".opus", ".wave"]
    assert kinds_of("midi", ["a.midi", "b.kar"]) == [".mid"] and kinds_of("tabular", ["a.csv"]) == [] and kinds_of("video") == [".npz"]


def test_every_kind_of_sound_that_an_index_lists_is_tried() -> None:
    assert set(SUFFIXES["audio"]) == set(CONTAINERS) and set(SUFFIXES["midi"]) == set(decoders.MIDI_NAMES)


def test_a_sound_library_that_does_not_work(monkeypatch) -> None:
    import soundfile

    def broken(*_, **__):
        raise RuntimeError("no libsndfile")

    monkeypatch.setattr(soundfile, "write", broken)
    check = found([".wav"], "audio")
    assert check.verdict == "fail" and "no libsndfile" in check.value and "pip install" in check.advice


def test_a_sound_library_too_old_for_a_kind_in_use(monkeypatch) -> None:
    import soundfile

    formats = {k: v for k, v in soundfile.available_formats().items() if k != "MP3"}
    monkeypatch.setattr(soundfile, "available_formats", lambda: formats)
    assert found([".wav"], "audio").verdict == "ok"
    check = found([".mp3", ".wav"], "audio")
    assert check.verdict == "fail" and "cannot read MP3" in check.value
    monkeypatch.setattr(soundfile, "available_subtypes", lambda container: {"VORBIS": "Vorbis"})
    assert found([".ogg"], "audio").verdict == "ok"
    assert "cannot read OPUS" in found([".opus"], "audio").value


def test_a_decoder_that_hears_another_tone(monkeypatch) -> None:
    decode = recording.decode
    monkeypatch.setattr(recording, "decode", lambda *args: (decode(*args)[0][::2], 16000))
    check = found([".wav"], "audio")
    assert check.verdict == "fail" and "880 Hz" in check.value


def test_a_slow_fallback_is_told_by_its_speed(monkeypatch) -> None:
    decode = recording.decode
    monkeypatch.setattr(recording, "decode", lambda *args: (time.sleep(0.12), decode(*args))[1])
    check = found([".wav"], "audio")
    assert check.verdict == "warn" and "fallback" in check.advice


def test_a_resampler_that_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    check = found([".wav"], "resampler")
    assert check.verdict == "fail" and "soxr" in check.advice


def test_midi_without_symusic_is_the_slow_fallback(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "symusic", None)
    check = found([".mid"], "midi")
    assert check.verdict == "warn" and "pretty_midi" in check.value and "slow fallback" in check.value


def test_midi_that_reads_other_notes_or_none(monkeypatch) -> None:
    read = midi_file.read_score
    monkeypatch.setattr(midi_file, "_symusic", lambda *_: (_ for _ in ()).throw(RuntimeError("bad")))
    monkeypatch.setattr(midi_file, "_pretty_midi", lambda *_: (_ for _ in ()).throw(RuntimeError("bad")))
    assert found([".mid"], "midi").verdict == "fail"
    monkeypatch.undo()

    def shifted(data):
        score = read(data)
        score.notes[midi_file.PITCH] += 1
        return score

    monkeypatch.setattr(midi_file, "read_score", shifted)
    assert "other notes" in found([".mid"], "midi").value


def test_an_npz_of_other_pixels(monkeypatch) -> None:
    monkeypatch.setattr(decoders.np, "array_equal", lambda a, b: False)
    assert found([".npz"], "video").verdict == "fail"


def test_a_crash_of_any_kind_is_a_failed_check(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    check = found([".wav"], "audio")
    assert check.verdict == "fail" and "soundfile does not work" in check.value


@pytest.mark.parametrize("format", ["tabular", "chat"])
def test_formats_that_python_reads_need_no_decoder(format: str) -> None:
    assert check_decoders(kinds_of(format)) == []
