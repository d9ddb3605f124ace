"""The video format: generator, reader and baselines."""

import csv
import io
import tracemalloc
import zipfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainyard.baselines.video import baselines
from trainyard.config.features import VideoFeatures
from trainyard.data.generate.trajectories import KINDS, camera, generate, path, project, render
from trainyard.data.pack import Pack, PackWriter
from trainyard.data.refused import Refused
from trainyard.data.video import VideoReader
from trainyard.data.views import View

CAMERAS, FRAMES, SIZE = 2, 6, 16


def features(**changes):
    return VideoFeatures(**{"cameras": CAMERAS, "frames": FRAMES, "size": SIZE, **changes})


def sample(cameras=CAMERAS, frames=FRAMES, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (cameras, frames, 3, size, size), np.uint8)
    return video, rng.normal(size=(frames + 1, 3)).astype(np.float32)


def npz(compress=False, **arrays):
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def read(blob, context=None, **changes):
    fixed, ragged = VideoReader(features(**changes), None, context or {}).read([blob], {"path": "x.npz"})
    assert not ragged
    return fixed["video"], fixed["positions"]


def npy_in_zip(header_shape, payload, dtype="|u1", name="video"):
    """An .npz whose `video` says one shape and holds other bytes."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": header_shape})
    buffer = io.BytesIO(npz(positions=sample()[1]))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", head.getvalue() + payload)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trajectories")
    generate(folder, seed=4, samples=40, cameras=CAMERAS, frames=FRAMES, size=SIZE)
    return folder


def rows_of(folder):
    with open(folder / "labels.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_generator_is_exactly_balanced_and_names_every_file(corpus):
    rows = rows_of(corpus)
    assert Counter(r["class"] for r in rows) == dict.fromkeys(KINDS, 10)
    assert {r["file"] for r in rows} == {p.relative_to(corpus).as_posix() for p in corpus.rglob("*.npz")}
    orders = {tuple(r["class"] for r in rows[i : i + 4]) for i in range(0, 40, 4)}
    assert len(orders) > 3  # the number of a file does not tell its class


def test_generator_gives_the_same_bytes_again_and_grows_by_appending(corpus, tmp_path):
    generate(tmp_path / "more", seed=4, samples=44, cameras=CAMERAS, frames=FRAMES, size=SIZE)
    generate(tmp_path / "other", seed=5, samples=4, cameras=CAMERAS, frames=FRAMES, size=SIZE)
    assert rows_of(tmp_path / "more")[:40] == rows_of(corpus)
    for row in rows_of(corpus):
        assert (corpus / row["file"]).read_bytes() == (tmp_path / "more" / row["file"]).read_bytes()
    first = "samples/sample_00000.npz"
    assert (corpus / first).read_bytes() != (tmp_path / "other" / first).read_bytes()


def test_generator_refuses_what_it_cannot_balance(tmp_path):
    with pytest.raises(ValueError, match="exactly balanced"):
        generate(tmp_path, samples=10)


@pytest.mark.parametrize("kind", KINDS)
def test_paths_are_what_they_are_called(kind):
    for seed in range(20):
        p = path(kind, 64, np.random.default_rng(seed)).astype(float)
        assert p.shape == (65, 3) and np.abs(p).max() < 2
        centred = p - p.mean(0)
        spread = np.linalg.svd(centred, compute_uv=False) / np.sqrt(len(p))
        straight, flat = spread[1] < 1e-5, spread[2] < 1e-5
        force = np.diff(p, 2, axis=0)
        assert straight == (kind == "linear")
        assert flat == (kind != "helical")
        if kind == "parabolic":
            np.testing.assert_allclose(force[:, :2], 0, atol=1e-5)
            assert (force[:, 2] < 0).all() and np.ptp(force[:, 2]) < 1e-4


def test_ball_is_drawn_where_the_cameras_project_it():
    views = [camera(i) for i in range(6)]
    assert len({tuple(np.round(place, 6)) for place, _ in views}) == 6
    positions = path("helical", 8, np.random.default_rng(1))[:8]
    video = render(positions, views, 64, 0.0, np.random.default_rng(2)).astype(float)
    bright = np.abs(video - video[:, :, :, :1, :1]).sum(2)
    for camera_seen, camera_true in zip(bright, project(positions, views, 64)):
        for frame, (column, row, _) in zip(camera_seen, camera_true):
            weight = frame / frame.sum()
            assert abs((weight.sum(0) * np.arange(64)).sum() - column) < 0.6
            assert abs((weight.sum(1) * np.arange(64)).sum() - row) < 0.6


def test_reads_the_systems_own_format():
    video, positions = sample(4, 32, 64)
    got, where = read(npz(video=video, positions=positions), cameras=4, frames=32, size=64)
    assert np.array_equal(got, video) and got.dtype == np.uint8
    assert np.array_equal(where, positions) and where.dtype == np.float32


def test_crops_cameras_and_frames_and_keeps_the_position_after_the_last_frame():
    video, positions = sample(3, 9)
    got, where = read(npz(video=video, positions=positions, more=np.arange(3)))
    assert np.array_equal(got, video[:CAMERAS, :FRAMES])
    assert np.array_equal(where, positions[: FRAMES + 1])


def test_averages_whole_squares():
    video, positions = sample(size=2 * SIZE)
    got, _ = read(npz(compress=True, video=video, positions=positions))
    means = video.astype(float).reshape(CAMERAS, FRAMES, 3, SIZE, 2, SIZE, 2).mean((4, 6))
    assert got.shape == (CAMERAS, FRAMES, 3, SIZE, SIZE) and np.abs(got - means).max() <= 0.5


def test_floats_column_order_and_other_names_are_read():
    video, positions = sample()
    floats = np.asfortranarray(video / 255.0).astype(">f8")
    got, where = read(npz(clip=floats, xyz=positions.astype(np.float64)), {"fields": {"video": "clip", "positions": "xyz"}})
    assert np.array_equal(got, video) and np.allclose(where, positions)


def test_a_mistake_in_fields_is_said_before_any_file_is_read():
    with pytest.raises(ValueError, match="fields: unknown key 'vidoe'"):
        read(b"", {"fields": {"vidoe": "clip"}})


VIDEO, POSITIONS = sample()
BAD_POSITION = POSITIONS.copy()
BAD_POSITION[3, 1] = np.nan
BAD_FLOATS = np.where(np.arange(SIZE) == 3, np.inf, VIDEO / 255)


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "not an .npz|cut off or damaged"),
        (b"MZ" + bytes(500), "not an .npz|cut off or damaged"),
        (npz(video=VIDEO, positions=POSITIONS)[:-200], "not an .npz|cut off or damaged"),
        (npz(positions=POSITIONS), "exactly one array 'video'; it holds 'positions'"),
        (npz(video=VIDEO), "exactly one array 'positions'"),
        (npz(video=VIDEO[0], positions=POSITIONS), "expected \\(cameras, frames, 3, height, width\\)"),
        (npz(video=VIDEO[:, :, :2], positions=POSITIONS), "expected \\(cameras, frames, 3"),
        (npz(video=VIDEO[:1], positions=POSITIONS), "has 1 cameras"),
        (npz(video=VIDEO[:, :5], positions=POSITIONS[:6]), "5 frames"),
        (npz(video=VIDEO[..., :12], positions=POSITIONS), "16 × 12 pixels"),
        (npz(video=VIDEO.repeat(3, 3).repeat(3, 4)[..., :40, :40], positions=POSITIONS), "40 × 40 pixels"),
        (npz(video=VIDEO.astype(np.int64), positions=POSITIONS), "type int64"),
        (npz(video=VIDEO.astype(np.float32), positions=POSITIONS), "expected 0 to 1"),
        (npz(video=BAD_FLOATS, positions=POSITIONS), "NaN or infinite"),
        (npz(video=VIDEO, positions=BAD_POSITION), "positions holds NaN"),
        (npz(video=VIDEO, positions=POSITIONS.astype(np.float64) * 1e300), "positions holds NaN or infinite"),
        (npz(video=VIDEO, positions=POSITIONS[:-1]), "6 frames need \\(7, 3\\)"),
        (npz(video=VIDEO, positions=POSITIONS.astype(str)), "expected numbers"),
        (npz(video=VIDEO.astype(object), positions=POSITIONS), "pickle"),
        (npz(video=VIDEO, positions=POSITIONS, **{f"a{i}": np.zeros(1) for i in range(80)}), "holds 82 arrays"),
        (npz(video=np.full_like(VIDEO, 7), positions=POSITIONS), "blank: every pixel of video has the same value"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "an .npy, which holds one array; an .npz with video and positions is needed"),
        (npy_in_zip((2, 6, 3, 16, 16), bytes(100)), "fewer bytes"),
        (npy_in_zip((-2, 6, 3, 16, 16), bytes(100)), "claims shape"),
    ],
)
def test_refuses_with_a_plain_reason(blob, reason):
    with pytest.raises(Refused, match=reason):
        read(blob)


@pytest.mark.parametrize(
    ("shape", "payload", "reason"),
    [
        ((1000, 1000, 3, 1000, 1000), b"", "at most 512 MB"),
        ((2, 6, 3, 16, 16), bytes(60_000_000), "more bytes"),
    ],
)
def test_bombs_are_refused_before_memory_is_given(shape, payload, reason):
    blob = npy_in_zip(shape, payload)
    assert len(blob) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match=reason):
            read(blob)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12), st.booleans())
def test_a_damaged_file_is_refused_or_whole(flips, compress):
    """Whatever bytes change, a sample comes out in its shape or is refused; nothing else is raised."""
    blob = bytearray(npz(compress=compress, video=VIDEO // 64, positions=POSITIONS))
    structure = [i for i in range(len(blob)) if i < 200 or i > len(blob) - 700]  # headers and directory, more often hit
    for where, value in flips:
        blob[structure[int(where * (len(structure) - 1))]] = value
    try:
        video, positions = read(bytes(blob))
    except Refused as refused:
        assert str(refused)
    else:
        assert video.shape == VIDEO.shape and np.isfinite(positions).all()


@pytest.fixture(scope="module")
def pack(corpus, tmp_path_factory):
    return pack_of(corpus, tmp_path_factory.mktemp("pack") / "all.safetensors")


def pack_of(folder, target):
    """All samples of a generated folder in one pack."""
    with np.load(folder / "samples/sample_00000.npz") as first:
        cameras, frames, _, size, _ = first["video"].shape
    reader = VideoReader(VideoFeatures(cameras=cameras, frames=frames, size=size), folder, {})
    with PackWriter(target, {"format": "video", "classes": sorted(KINDS), **reader.meta()}) as writer:
        for row in rows_of(folder):
            fixed, ragged = reader.read([(folder / row["file"]).read_bytes()], {"path": row["file"]})
            writer.add({**fixed, "label": np.int64(sorted(KINDS).index(row["class"]))}, {**ragged, "id": row["file"], "group": row["file"]})
    return Pack(target)


def test_baselines_learn_from_training_rows_alone(tmp_path):
    generate(tmp_path, samples=240, cameras=2, frames=10, size=24)
    pack = pack_of(tmp_path, tmp_path / "all.safetensors")
    train, held = View(pack, np.arange(160)), View(pack, np.arange(160, 240))
    found = {(b.level, part): (b, out) for b in baselines({}, train, held) for part, out in b.parts.items()}
    assert set(found) == {(level, part) for level in ("trivial", "simple") for part in ("trajectory", "position")}
    assert all(b.items.tolist() == [[r] for r in held.rows] for b, _ in found.values())
    hits = {level: found[level, "trajectory"][1].correct.mean() for level in ("trivial", "simple")}
    assert hits["simple"] > 0.7 > 0.4 > hits["trivial"]
    error = {level: mse(found[level, "position"][1]) for level in ("trivial", "simple")}
    assert error["simple"] < 0.2 * error["trivial"]
    np.testing.assert_allclose(found["trivial", "position"][1].prediction[0], pack.fixed("positions")[:160, -1].mean(0), rtol=1e-4)


def test_baselines_stand_a_blank_video_and_one_class(pack, tmp_path):
    with PackWriter(tmp_path / "blank.safetensors", {"classes": sorted(KINDS)}) as writer:
        for i in range(12):
            video = np.zeros_like(pack.fixed("video")[0])
            writer.add({"video": video, "positions": pack.fixed("positions")[i], "label": np.int64(2)}, {"id": f"s{i}", "group": f"s{i}"})
    blank = Pack(tmp_path / "blank.safetensors")
    for baseline in baselines({}, View(blank, np.arange(6)), View(blank, np.arange(6, 12))):
        for out in baseline.parts.values():
            assert np.isfinite(np.concatenate(out.prediction)).all()


def mse(out):
    return float(np.mean((np.stack(out.target) - np.stack(out.prediction)) ** 2))
