"""Recordings: decoding by content, refusals in words, mel and loudness, and the sung demo data."""

import io
import json

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from trainyard.config.features import AudioFeatures
from trainyard.data.audio import AudioReader, colour, frame_count, mel_energy, mel_matrix, spectrum
from trainyard.data.generate.m4singer import STYLES, generate
from trainyard.data.recording import BLOCK, decode
from trainyard.data.refused import Refused

FEATURES = AudioFeatures(sample_rate=8000, seconds=1.0, n_fft=512, hop=128, mels=24)


def tone(seconds=1.0, rate=8000, hz=440.0, level=0.3):
    return level * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)


def coded(x, rate=8000, kind="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, x, rate, format=kind, subtype=subtype)
    return file.getvalue()


def read(data, features=FEATURES):
    return AudioReader(features, None, {}).read([data], {"path": "a.wav"})[0]


def test_shapes_and_types_are_those_of_the_pack():
    fields = read(coded(tone()))
    assert fields["mel"].shape == (63, 24) and fields["mel"].dtype == np.float16
    assert fields["loudness"].shape == (63,) and fields["loudness"].dtype == np.float32
    assert fields["frames"] == 63
    assert AudioReader(FEATURES, None, {}).meta() == {"frames": 63, "mels": 24}


@pytest.mark.parametrize(
    ("kind", "subtype"), [("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("FLAC", None), ("OGG", None), ("MP3", None)]
)
def test_formats_are_told_by_content_and_agree(kind, subtype):
    plain, other = read(coded(tone())), read(coded(tone(), kind=kind, subtype=subtype))
    loud = plain["mel"].max(1) > 5
    assert np.array_equal(plain["mel"].argmax(1)[loud], other["mel"].argmax(1)[loud])


def test_a_long_mp3_is_read_as_a_whole_though_in_blocks():
    noise = np.random.default_rng(0).standard_normal(5 * 44100) * 0.1
    data = coded(noise, 44100, "MP3")
    whole = soundfile.read(io.BytesIO(data), dtype="float64")[0]
    x, rate = decode(data, 100.0, False)
    assert rate == 44100 and len(whole) > 2 * BLOCK
    np.testing.assert_array_equal(x, (whole * 2.0 ** -np.frexp(np.abs(whole).max())[1]).astype(np.float32))


def test_rate_and_channels_do_not_matter():
    plain = read(coded(tone()))
    fast = read(coded(np.stack([tone(rate=22050), tone(rate=22050)], 1), 22050))
    inner = slice(3, -3)
    assert np.abs(plain["loudness"] - fast["loudness"])[inner].max() < 0.1
    strong = plain["mel"][inner].astype(np.float32) > 0
    assert np.abs(plain["mel"].astype(np.float32) - fast["mel"].astype(np.float32))[inner][strong].max() < 0.1


def test_gain_is_taken_out_and_loudness_is_relative():
    quiet, loud = read(coded(tone(level=0.01), subtype="FLOAT")), read(coded(tone(level=0.9), subtype="FLOAT"))
    assert np.allclose(quiet["mel"].astype(np.float32), loud["mel"].astype(np.float32), atol=0.02)
    x = np.concatenate([tone(0.5, level=0.8), tone(0.5, level=0.08)])
    level = read(coded(x))["loudness"]
    assert level[10] - level[50] == pytest.approx(20, abs=0.3)


def test_short_clips_are_padded_and_long_ones_give_their_middle():
    short = read(coded(tone(0.4)))
    assert short["frames"] == 26 and (short["mel"][30:] == np.float16(np.log(1e-6))).all()
    x = np.concatenate([tone(2, hz=300), tone(2, hz=2000), tone(2, hz=300)])
    high = np.abs(read(coded(tone(1, hz=2000)))["mel"][30].argmax() - read(coded(x))["mel"][30].argmax())
    assert high == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not audio at all" * 20, "not a recording"),
        (coded(np.zeros(8000)), "silent: every sample is zero"),
        (coded(np.full(8000, 0.2)), "same value"),
        (coded(np.array([0.1, np.nan, 0.2] * 3000), subtype="FLOAT"), "not finite"),
        (coded(np.array([0.1, np.inf, 0.2] * 3000), subtype="DOUBLE"), "not finite"),
        (coded(np.zeros((0, 1))), "no samples"),
        (coded(tone(0.005)), "shorter than one frame"),
        (coded(np.concatenate([tone(0.2), np.zeros(80000), tone(0.2)])), "silent: the 1.01 s that would be kept"),
        (coded(tone(), rate=400), "sample rate of 400"),
    ],
)
def test_bad_files_are_refused_with_the_reason(data, reason):
    with pytest.raises(Refused, match=reason):
        read(data)


def test_values_beyond_full_scale_are_read():
    fields = read(coded(tone(level=1e30), subtype="DOUBLE"))
    assert np.isfinite(fields["mel"]).all() and np.allclose(fields["mel"], read(coded(tone(level=0.5), subtype="DOUBLE"))["mel"], atol=0.02)


def test_a_cut_off_file_is_read_to_where_it_breaks():
    whole = coded(tone(1.0))
    assert read(whole[: len(whole) // 2])["frames"] < 40


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300), st.sampled_from(["WAV", "FLAC", "OGG"]))
def test_damage_is_read_or_refused_but_never_crashes(noise, at, kind):
    data = bytearray(coded(tone(0.3), kind=kind))
    data[at : at + len(noise)] = noise
    try:
        fields = read(bytes(data))
    except Refused as reason:
        assert str(reason)
    else:
        assert np.isfinite(fields["mel"].astype(np.float32)).all() and np.isfinite(fields["loudness"]).all()


def test_spectrum_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal(12000).astype(np.float32)
    power = np.concatenate([power for power, _ in spectrum(x, 512, 128)])
    expected = torch.stft(torch.from_numpy(x), 512, 128, window=torch.hann_window(512), return_complex=True).abs().numpy() ** 2
    assert power.shape == expected.T.shape
    assert np.allclose(power, expected.T, rtol=1e-3, atol=1e-3)


def test_mel_bands_are_never_empty():
    for rate, n_fft, mels in ((16000, 1024, 64), (8000, 256, 128), (48000, 1024, 256)):
        assert (mel_matrix(rate, n_fft, mels).sum(1) > 0).all()


def test_colour_keeps_no_loudness():
    mel = read(coded(tone() + 0.1 * np.random.default_rng(0).standard_normal(8000)))["mel"].astype(np.float32)
    assert np.allclose(colour(mel), colour(mel - 3.0), atol=1e-4)
    assert colour(mel).min() >= -8.0


def test_sung_data_have_the_layout_of_m4singer(tmp_path):
    generate(tmp_path, seed=1, singers=5, phrases=2, seconds=0.5, sample_rate=8000)
    items = json.loads((tmp_path / "meta.json").read_text())
    assert len(items) == 5 * 4 * 2
    assert {i["emotion"] for i in items} == set(STYLES)
    singers = {i["item_name"].split("#")[0] for i in items}
    assert singers == {"Soprano-1", "Alto-1", "Tenor-1", "Bass-1", "Soprano-2"}
    for item in items:
        album, _, take = item["item_name"].rpartition("#")
        assert read((tmp_path / album / f"{take}.wav").read_bytes())["frames"] > 20
    again = tmp_path / "again"
    generate(again, seed=1, singers=1, phrases=1, seconds=0.5, sample_rate=8000)
    one = next(again.rglob("*.wav"))
    assert one.read_bytes() == (tmp_path / one.relative_to(again)).read_bytes()


def test_mel_is_torchaudios_where_that_is_present():
    torchaudio = pytest.importorskip("torchaudio")
    torch = pytest.importorskip("torch")
    rate, n_fft, hop, mels = 16000, 1024, 256, 40
    x = np.random.default_rng(0).normal(size=rate).astype(np.float32)
    theirs = torchaudio.transforms.MelSpectrogram(
        rate, n_fft, hop_length=hop, f_min=60.0, f_max=0.475 * rate, n_mels=mels, power=2.0, center=True, mel_scale="htk", norm=None
    )(torch.from_numpy(x))
    ours, _ = mel_energy(x, n_fft, hop, mel_matrix(rate, n_fft, mels))
    assert np.allclose(ours, theirs.numpy().T[: len(ours)], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_fft", [64, 65, 1023])
def test_an_odd_window_gives_as_many_frames_as_the_pack_says(n_fft: int) -> None:
    x = np.random.default_rng(0).normal(size=1600).astype(np.float32)
    mel, loudness = mel_energy(x, n_fft, 16, mel_matrix(16000, n_fft, 8))
    assert len(mel) == len(loudness) == frame_count(AudioFeatures(sample_rate=16000, seconds=0.1, n_fft=n_fft, hop=16, mels=8))
