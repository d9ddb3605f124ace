"""The four video extractors behind their one interface and head."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from trainyard.config import load_config
from trainyard.config.architectures import ARCHITECTURES
from trainyard.data.generate.trajectories import KINDS, generate
from trainyard.data.pack import Pack, PackWriter
from trainyard.models.base_extractor import BaseExtractor
from trainyard.models.registry import architecture

NAMES = ("i3d", "slowfast", "transformer", "magvit")
ATTENDING = ("transformer", "magvit")
CAMERAS, FRAMES, SIZE = 2, 6, 16
HOME = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trajectories")
    generate(folder, samples=16, cameras=CAMERAS, frames=FRAMES, size=SIZE)
    with PackWriter(folder / "train.safetensors", {"format": "video", "classes": sorted(KINDS)}) as writer:
        for i, line in enumerate((folder / "labels.csv").read_text().split()[1:]):
            name, kind = line.split(",")
            with np.load(folder / name) as sample:
                fixed = {"video": sample["video"], "positions": sample["positions"], "label": np.int64(sorted(KINDS).index(kind))}
            writer.add(fixed, {"id": name, "group": f"g{i}"})
    return Pack(folder / "train.safetensors")


def build(name, pack, **options):
    torch.manual_seed(0)
    wide = {"feature_dim": 24, "width": 8, **({"token_width": 32} if name in ATTENDING else {}), **options}
    typed = ARCHITECTURES[name].options(**wide)
    return architecture(name).from_pack(typed, pack, np.arange(len(pack)), {})


@pytest.mark.parametrize("name", NAMES)
def test_every_extractor_gives_one_feature_vector_a_clip(name, pack):
    extractor = build(name, pack).extractor
    features, extra = extractor(torch.randn(3, 3, FRAMES, SIZE, SIZE))
    assert isinstance(extractor, BaseExtractor) and extractor.feature_dim == 24
    assert features.shape == (3, 24)
    assert (extra is None) == (name != "magvit") and (extra is None or extra.shape == (3,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("frames", "size"), [(7, 20), (2, 17)])
def test_odd_lengths_and_sizes_work(name, frames, size):
    options = ARCHITECTURES[name].options(feature_dim=16)
    model = architecture(name)(options, 4, 1, frames, size)
    video = torch.randint(0, 255, (2, 1, frames, 3, size, size), dtype=torch.uint8)
    scores, position, _ = model({"video": video})
    assert scores.shape == (2, 4) and position.shape == (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_no_layer_ties_the_items_of_a_batch(name, pack):
    model = build(name, pack).train()
    assert not [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._NormBase)]
    items, seeds = np.arange(6)[:, None], np.arange(6) + 100
    together = model.losses(model.collate(pack, items, seeds))
    alone = [model.losses(model.collate(pack, items[i : i + 1], seeds[i : i + 1])) for i in range(6)]
    assert together.shape == (6,)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_loss_falls_and_both_parts_are_learned(name, pack):
    model = build(name, pack).train()
    batch = model.collate(pack, np.arange(16)[:, None], None)
    assert batch["weight"].tolist() == [1.0] * 16
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    first = model.losses(batch).mean().item()
    for _ in range(60):
        optimiser.zero_grad()
        model.losses(batch).mean().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        optimiser.step()
    with torch.no_grad():
        last, parts = model.eval().losses(batch).mean().item(), model.predict(batch)
    assert last < 0.5 * first
    assert parts["trajectory"].kind == "class" and parts["trajectory"].correct.mean() > 0.7
    target, found = np.stack(parts["position"].target), np.stack(parts["position"].prediction)
    np.testing.assert_array_equal(target, pack.fixed("positions")[:, -1])  # in the data's own unit
    assert ((target - found) ** 2).mean() < 0.5 * target.var(0).mean()


def test_positions_are_standardised_by_the_training_rows_alone(pack):
    rows = np.arange(5)
    model = architecture("i3d").from_pack(ARCHITECTURES["i3d"].options(feature_dim=16, width=4), pack, rows, {})
    target = pack.fixed("positions")[:5, -1]
    np.testing.assert_allclose(model.position_mean, target.mean(0), atol=1e-6)
    np.testing.assert_allclose(model.position_scale, target.std(0), atol=1e-6)
    assert {"position_mean", "position_scale"} <= set(model.state_dict())


def test_only_training_swaps_colours_and_each_item_by_its_own_seed(pack):
    model = build("i3d", pack)
    items, seeds = np.arange(8)[:, None], np.arange(8)
    plain, once = model.collate(pack, items, None)["video"], model.collate(pack, items, seeds)["video"]
    assert torch.equal(plain, torch.from_numpy(np.array(pack.fixed("video")[:8])))
    assert not torch.equal(plain, once)
    assert torch.equal(plain.sort(3).values, once.sort(3).values)
    back = model.collate(pack, items[::-1], seeds[::-1])["video"]
    assert torch.equal(back.flip(0), once)


def test_brightness_of_the_background_does_not_matter(pack):
    model = build("transformer", pack).eval()
    batch = model.collate(pack, np.arange(4)[:, None], None)
    batch["video"] = batch["video"] // 2
    lighter = {**batch, "video": batch["video"] + 60}
    torch.testing.assert_close(model(batch)[0], model(lighter)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_maps_are_distributions_over_the_token_grid(name, pack):
    model = build(name, pack, layers=3, heads=2).eval()
    maps = model.attention_maps(model.collate(pack, np.arange(4)[:, None], None))
    tokens = int(np.prod(model.extractor.token_grid))
    assert len(maps) == 3
    for weights in maps:
        assert weights.shape == (4, CAMERAS, 2, tokens, tokens)
        torch.testing.assert_close(weights.sum(-1), torch.ones(4, CAMERAS, 2, tokens))


def test_networks_without_attention_say_so(pack):
    model = build("slowfast", pack)
    with pytest.raises(TypeError, match="SlowFastExtractor has no attention"):
        model.attention_maps(model.collate(pack, np.arange(1)[:, None], None))


def test_magvit_codes_are_bits_with_a_gradient(pack):
    tokenizer = build("magvit", pack, bits=5, tube=4).extractor.tokenizer
    clips = torch.randn(2, 3, FRAMES, SIZE, SIZE)
    codes, error = tokenizer(clips)
    assert codes.shape == (2, 2 * 2 * 2, 5) and set(codes.detach().unique().tolist()) <= {-1.0, 1.0}
    codes.sum().backward(retain_graph=True)
    assert tokenizer.cubes.weight.grad.abs().sum() > 0  # straight through the sign
    tokenizer.zero_grad()
    error.sum().backward()
    assert tokenizer.decoder.weight.grad.abs().sum() > 0


def test_magvit_convolutions_see_no_later_frame(pack):
    block = build("magvit", pack).extractor.tokenizer.stem[0]
    block.norm = torch.nn.Identity()
    clips = torch.randn(1, 3, FRAMES, SIZE, SIZE)
    later = clips.clone()
    later[:, :, 4:] += 1
    same = (block(clips) == block(later)).flatten(3).all(-1).all(1)[0]
    assert same.tolist() == [True] * 4 + [False] * 2


def test_slow_pathway_sees_every_alpha_th_frame(pack):
    extractor = build("slowfast", pack, alpha=3).extractor.eval()
    seen = []
    extractor.slow1.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    clips = torch.randn(1, 3, FRAMES, SIZE, SIZE)
    extractor(clips)
    assert torch.equal(seen[0], clips[:, :, [0, 3]])


def test_unlabelled_samples_are_named_before_training(pack, tmp_path):
    with PackWriter(tmp_path / "x.safetensors", {"classes": ["a", "b"]}) as writer:
        writer.add(
            {"video": pack.fixed("video")[0], "positions": pack.fixed("positions")[0], "label": np.int64(-1)}, {"id": "a", "group": "a"}
        )
    with pytest.raises(ValueError, match="1 of 1 training samples without one.*label rule"):
        build("i3d", Pack(tmp_path / "x.safetensors"))


def test_held_out_samples_without_a_label_are_left_out(tmp_path):
    """By models and baselines alike: there is no class to be right about."""
    from trainyard.baselines.video import baselines
    from trainyard.data.views import View

    rng = np.random.default_rng(0)
    with PackWriter(tmp_path / "some.safetensors", {"classes": ["a", "b"]}) as writer:
        for i, label in enumerate((0, 1, 0, 1, -1, 1)):
            video = rng.integers(0, 255, (1, 8, 3, 16, 16), np.uint8)
            fixed = {"video": video, "positions": np.zeros((9, 3), np.float32), "label": np.int64(label)}
            writer.add(fixed, {"id": str(i), "group": str(i)})
    some = Pack(tmp_path / "some.safetensors")
    options = ARCHITECTURES["i3d"].options(feature_dim=24, width=8)
    model = architecture("i3d").from_pack(options, some, np.arange(4), {})
    assert model.items(some, np.array([3, 4, 5]))[:, 0].tolist() == [3, 5]
    for found in baselines({}, View(some, np.arange(4)), View(some, np.array([4, 5]))):
        assert found.items.tolist() == [[5]] and all(len(part.count) == 1 for part in found.parts.values())


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValidationError, match="must divide"):
        ARCHITECTURES["magvit"].options(token_width=50, heads=4)


@pytest.mark.parametrize(("scale", "dims"), [("full", (1024, 1024, 512, 1024)), ("demo", (128, 128, 128, 128))])
def test_the_suites_sizes_build(scale, dims):
    """With weights that take no memory: shapes alone."""
    suite = load_config({"suites": ["mono_to_3d"], "scale": scale}, HOME).suites["mono_to_3d"]
    sizes = suite.datasets["trajectories"].features
    assert scale == "demo" or (sizes.cameras, sizes.frames, sizes.size) == (4, 32, 64)
    for name, dim in zip(NAMES, dims):
        options = suite.models[name].options
        assert options.feature_dim == dim
        with torch.device("meta"):
            model = architecture(suite.models[name].architecture)(options, 4, sizes.cameras, sizes.frames, sizes.size)
            video = torch.empty(2, sizes.cameras, sizes.frames, 3, sizes.size, sizes.size, dtype=torch.uint8)
            loss = model.losses({"video": video, "position": torch.empty(2, 3), "label": torch.empty(2, dtype=torch.int64)})
        assert loss.shape == (2,)
