"""WAV files read straight from their bytes: the samples are those of `wave` and soundfile, and odd headers have decisions."""

import io
import wave

import numpy as np
import odd_wav
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from test_audio import FEATURES, coded, read, tone
from trainyard.data.recording import decode
from trainyard.data.refused import Refused
from trainyard.data.wav import open_wav


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_samples_are_those_of_the_wave_module(subtype, channels):
    rng = np.random.default_rng(channels)
    data = coded(rng.uniform(-1, 1, (801, channels)), subtype=subtype)
    with wave.open(io.BytesIO(data)) as file:
        raw, width = file.readframes(file.getnframes()), file.getsampwidth()
    mine = open_wav(data).samples(0, 801)
    if width == 3:  # in the upper bytes of int32
        assert not (mine & 0xFF).any()
        mine = mine.view(np.uint8).reshape(801, channels, 4)[..., 1:]
    assert mine.tobytes() == raw


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_kind_decodes_to_what_soundfile_reads(subtype, kind, channels):
    if not soundfile.check_format(kind, subtype):
        pytest.skip(f"libsndfile writes no {kind} of {subtype}")
    rng = np.random.default_rng(0)
    data = coded(rng.uniform(-0.9, 0.9, (1000, channels)), subtype=subtype, kind=kind)
    expected = soundfile.read(io.BytesIO(data), always_2d=True)[0].mean(1)
    mine, rate = decode(data, 1.0, False)
    assert rate == 8000 and near_one(mine) == near_one(expected)


def near_one(x):
    """The bytes of x times the power of two that brings its peak into [0.5, 1), in float32."""
    return (x * 2.0 ** -np.frexp(np.abs(x).max().astype(np.float64))[1]).astype(np.float32).tobytes()


@pytest.mark.parametrize("peak", [3e38, 1e-44, 2.0**-126, 1.0, 0.75])
@pytest.mark.parametrize("width", [4, 8])
def test_floats_of_any_scale_can_be_squared(peak, width):
    values = (np.array([1, -0.5, 0.25]) * peak).astype(f"<f{width}")
    mine, _ = decode(odd_wav.pcm(values.tobytes(), 8 * width, 1, code=3), 1.0, False)
    assert 1e-14 < np.square(mine).max() < 16 and (mine / mine[0]).tolist() == (values / values[0]).astype(np.float32).tolist()


@pytest.mark.parametrize("bits", [8, 12, 16, 20, 24, 28, 32])
@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 9])
@pytest.mark.parametrize("big", [False, True])
def test_whole_numbers_become_the_nearest_float32_times_a_power_of_two(bits, channels, big):
    """Whatever way a kind takes: the mean over the channels, or their sum, in float64; scaled, then rounded."""
    width = -(-bits // 8)
    sound = np.random.default_rng(bits).integers(0, 256, 500 * channels * width, np.uint8).tobytes()
    whole = [int.from_bytes(sound[at : at + width], "big" if big else "little", signed=width > 1) for at in range(0, len(sound), width)]
    mean = (np.array(whole, np.float64) - (128 if width == 1 else 0)).reshape(-1, channels).mean(1)
    for start, seconds in ((0, 1.0), (168, 0.0125)):  # all of it, and 164 from the middle
        expected = mean[start : start + (164 if start else 500)]
        mine, _ = decode(odd_wav.pcm(sound, bits, channels, big), seconds, True)
        assert mine.dtype == np.float32
        assert near_one(mine) in (near_one(expected), near_one(expected * channels))


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("big", [False, True])
def test_floats_become_the_nearest_float32_times_a_power_of_two(width, channels, big):
    values = np.random.default_rng(width).standard_normal((500, channels)).astype(f"{'>' if big else '<'}f{width}")
    mean = values.astype(np.float64).mean(1)
    mine, _ = decode(odd_wav.pcm(values.tobytes(), 8 * width, channels, big, code=3), 1.0, True)
    assert near_one(mine) in (near_one(mean), near_one(mean * channels))


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_one_sample_and_extremes(bits):
    width = bits // 8
    low, high = (b"\0", b"\xff") if width == 1 else (bytes(width - 1) + b"\x80", b"\xff" * (width - 1) + b"\x7f")
    with pytest.raises(Refused, match="same value"):
        decode(odd_wav.pcm(low, bits, 1), 1.0, False)
    mine, _ = decode(odd_wav.pcm(low + high, bits, 1), 1.0, False)
    assert (mine / -mine[0]).tolist() == [-1.0, np.float32((2.0 ** (bits - 1) - 1) / 2.0 ** (bits - 1))]
    mine, _ = decode(odd_wav.pcm(low + low + high + high, bits, 2), 1.0, False)
    assert (mine / -mine[0]).tolist() == [-1.0, np.float32((2.0 ** (bits - 1) - 1) / 2.0 ** (bits - 1))]


@given(st.integers(0, 4000), st.integers(1, 4000))
def test_only_what_is_kept_is_read(start, count):
    mine = open_wav(odd_wav.wav()).samples(start, start + count)[:, 0]
    assert np.array_equal(mine, odd_wav.TONE[start : start + count])


@pytest.mark.parametrize("name", odd_wav.SAME)
def test_an_odd_header_around_good_samples_does_no_harm(name):
    assert np.array_equal(decode(odd_wav.SAME[name], 1.0, False)[0], decode(odd_wav.SAME["plain"], 1.0, False)[0])


@pytest.mark.parametrize("name", odd_wav.REFUSED)
def test_what_cannot_be_read_is_refused_in_words(name):
    data, reason = odd_wav.REFUSED[name]
    with pytest.raises(Refused, match=reason):
        read(data)
    with pytest.raises(Refused) as refusal:
        read(data)
    assert "object at 0x" not in str(refusal.value)


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", None), ("MP3", None), ("OGG", None), ("AIFF", None), ("AU", None)])
def test_a_recording_of_another_format_may_be_called_wav(kind, subtype):
    assert read(coded(tone(), kind=kind, subtype=subtype))["frames"] >= 60


def test_a_data_part_that_is_too_small_is_believed():
    """As every other reader does: what is behind it may be anything."""
    assert open_wav(odd_wav.wav(size=1000)).frames == 500


@given(st.binary(max_size=24), st.integers(0, 60))
def test_a_damaged_header_is_read_or_refused(noise, at):
    data = bytearray(odd_wav.wav())
    data[at : at + len(noise)] = noise
    try:
        x, _ = decode(bytes(data), FEATURES.seconds, True)
    except Refused as reason:
        assert str(reason)
    else:
        assert np.isfinite(x).all() and 1e-7 < np.abs(x).max() < 1e12
