"""Attention maps: small arrays that are distributions, and their picture in the report."""

import re
import struct
import zlib

import numpy as np
import pytest
import torch
from trainyard.config.architectures import ARCHITECTURES
from trainyard.data.generate.trajectories import KINDS, generate
from trainyard.data.pack import Pack, PackWriter
from trainyard.data.views import View
from trainyard.models.attention import write_attention
from trainyard.models.registry import architecture
from trainyard.report.charts.attention import attention, png
from trainyard.report.loose import Loose
from trainyard.report.read_more import read_attention
from trainyard.report.views.runs import Model, Run


@pytest.mark.parametrize(("name", "steps", "places"), [("transformer", 5, 1), ("magvit", 2, 4)])
def test_maps_are_written_read_and_drawn(tmp_path, name, steps, places):
    generate(tmp_path, samples=12, cameras=2, frames=5, size=16)
    with PackWriter(tmp_path / "test.safetensors", {"format": "video", "classes": sorted(KINDS)}) as writer:
        for line in (tmp_path / "labels.csv").read_text().split()[1:]:
            file, kind = line.split(",")
            with np.load(tmp_path / file) as sample:
                fixed = {"video": sample["video"], "positions": sample["positions"], "label": np.int64(sorted(KINDS).index(kind))}
            writer.add(fixed, {"id": file, "group": file})
    pack = Pack(tmp_path / "test.safetensors")
    view = View(pack, np.arange(3, 12))
    torch.manual_seed(0)
    options = ARCHITECTURES[name].options(feature_dim=16, width=4, token_width=16)
    assert ARCHITECTURES[name].attention
    model = architecture(name).from_pack(options, pack, view.rows, {})
    assert write_attention(model, view, tmp_path / "attention" / f"{name}.safetensors", {"run": name}) == 4
    run = Run("mono_to_3d", name, name, "done")
    files = Loose(tmp_path)
    found = read_attention(files, tmp_path, [Model("mono_to_3d", name, (run,), (), None)])
    assert [a.true for a in found] == sorted(KINDS) and not files.problems
    for a in found:
        row = pack.texts("id").index(a.sample)
        assert row >= 3, "only samples of the view"
        assert (a.frames == pack.fixed("video")[row][0]).all() and a.grid[0] == steps
        assert a.received.shape == (steps * places,) and a.received.sum() == pytest.approx(1, abs=1e-4)
        assert a.between.shape == (steps, steps) and a.between.sum(1) == pytest.approx(np.ones(steps), abs=1e-4)
    # From the maps themselves, in full: what a step's tokens give to another step's.
    weights = (
        model.attention_maps(model.collate(pack, np.array([[pack.texts("id").index(found[0].sample)]]), None))[-1][0, 0].mean(0).detach()
    )
    assert found[0].received == pytest.approx(weights.mean(0).numpy(), abs=1e-5)
    assert found[0].between[0, 1] == pytest.approx(float(weights[:places, places : 2 * places].sum(1).mean()), abs=1e-5)
    svg = attention(found[0], "said")
    pictures = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    assert len(pictures) == min(steps, 6) and svg.count('class="glow"') == (steps * places if places > 1 else 0)
    assert 'style="' not in svg and "said" in svg
    # A broken file is told, and costs nothing else.
    (tmp_path / "attention" / f"{name}.safetensors").write_bytes(b"junk")
    assert read_attention(files, tmp_path, [Model("mono_to_3d", name, (run,), (), None)]) == [] and files.problems


def test_a_picture_is_a_png_of_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint8)
    data = png(pixels)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        chunks[kind], at = body, at + 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"] and struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (5, 3, 8, 2, 0, 0, 0)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(3, 16)
    assert (lines[:, 0] == 0).all() and (lines[:, 1:].reshape(3, 5, 3) == pixels).all()
