"""Models and baselines on recordings: they learn, an item's loss is its own, checkpointing changes nothing."""

import numpy as np
import pytest
import torch
from torch import nn
from trainyard.baselines import audio as audio_baselines
from trainyard.baselines import paired as paired_baselines
from trainyard.config.architectures import ARCHITECTURES
from trainyard.data.pack import Pack, PackWriter
from trainyard.data.views import View
from trainyard.models.layers import number_dropouts, sample_seeds
from trainyard.models.registry import architecture

ROWS, FRAMES, MELS, NOTES = 24, 24, 16, 8
AUDIO, PAIRED = ("emotion_recognizer", "dynamics_engine"), ("audio_only", "midi_only", "fusion")


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Clips whose brightest band is the class and first score, whose slope is the loudness; notes whose pitch is the other score."""
    folder, rng = tmp_path_factory.mktemp("packs"), np.random.default_rng(0)
    meta = {"classes": ["high", "low"], "target_names": ["tone", "register"], "mels": MELS, "frames": FRAMES}
    with PackWriter(folder / "a.safetensors", meta) as writer:
        for i in range(ROWS):
            label, level, pitch = i % 2, rng.normal(0, 5, FRAMES).astype(np.float32), rng.uniform(40, 90)
            mel = rng.normal(0, 0.3, (FRAMES, MELS)) + np.where(np.arange(MELS) < 8, 2, -2) * (1 if label else -1)
            mel += 0.2 * level[:, None] * np.linspace(-1, 1, MELS)
            frames = FRAMES if i % 3 else FRAMES - 5
            mel[frames:] = -13.8
            notes = np.zeros((NOTES, 5), np.float32)
            count = NOTES if i % 4 else 5
            notes[:count] = rng.normal(size=(count, 5)) + [pitch, 64, 1, 1, 0]
            scores = np.array([label + rng.normal(0, 0.05), pitch / 90], np.float32)
            fixed = {"mel": mel.astype(np.float16), "loudness": level, "frames": np.int32(frames), "notes": notes,
                     "note_count": np.int32(count), "scores": scores, "label": np.int64(label if i else -1)}  # fmt: skip
            writer.add(fixed, {"id": f"clip{i}", "group": f"g{i}"})
    return Pack(folder / "a.safetensors")


def build(name, pack, **options):
    torch.manual_seed(0)
    model = architecture(name).from_pack(ARCHITECTURES[name].options(**options), pack, np.arange(len(pack)), {})
    number_dropouts(model)
    return model


def losses(model, pack, items, seeds):
    with sample_seeds(torch.from_numpy(seeds)):
        return model.losses(model.collate(pack, items, seeds))


@pytest.mark.parametrize("name", AUDIO + PAIRED)
def test_the_loss_falls(name, packs):
    model = build(name, packs)
    items = model.items(packs, np.arange(len(packs)))
    weight = float(model.collate(packs, items, None)["weight"].sum())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    seen = []
    for step in range(25):
        loss = losses(model, packs, items, np.arange(len(items)) + 1000 * step).sum() / weight
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert np.mean(seen[-3:]) < 0.6 * seen[0]


@pytest.mark.parametrize("name", AUDIO + PAIRED)
def test_an_items_loss_is_its_own(name, packs):
    options = {"dropout": 0.3} if "dropout" in ARCHITECTURES[name].options.model_fields else {}
    model = build(name, packs, **options).train()
    items = model.items(packs, np.arange(len(packs)))[:6]
    seeds = np.arange(len(items)) + 7
    together = losses(model, packs, items, seeds)
    alone = torch.cat([losses(model, packs, items[i : i + 1], seeds[i : i + 1]) for i in range(len(items))])
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("name", PAIRED)
def test_gradient_checkpointing_gives_the_same_gradients(name, packs):
    gradients = []
    for again in (False, True):
        model = build(name, packs, dropout=0.3, gradient_checkpointing=again).train()
        items, seeds = model.items(packs, np.arange(8)), np.arange(8)
        with sample_seeds(torch.from_numpy(seeds)):
            model.losses(model.collate(packs, items, seeds)).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for key, value in gradients[0].items():
        assert torch.allclose(value, gradients[1][key], atol=1e-6), key


def test_gradient_checkpointing_keeps_fewer_activations(packs):
    def kept(again):
        model, sizes = build("fusion", packs, gradient_checkpointing=again).train(), []
        batch = model.collate(packs, model.items(packs, np.arange(8)), None)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            model.losses(batch)
        return sum(sizes)

    assert kept(True) < 0.7 * kept(False)


@pytest.mark.parametrize("name", AUDIO + PAIRED)
def test_padding_is_not_looked_at(name, packs, tmp_path):
    """The same clips with other values behind their end are predicted the same."""
    with PackWriter(tmp_path / "b.safetensors", packs.meta) as writer:
        for i in range(6):
            fixed = {n: np.array(packs.fixed(n)[i]) for n in ("mel", "loudness", "frames", "notes", "note_count", "scores", "label")}
            fixed["mel"][fixed["frames"] :] = 3
            fixed["loudness"][fixed["frames"] :] = 9
            fixed["notes"][fixed["note_count"] :] = 50
            writer.add(fixed, {"id": f"clip{i}", "group": "g"})
    model, other = build(name, packs).eval(), Pack(tmp_path / "b.safetensors")
    items = model.items(packs, np.arange(6))
    with torch.no_grad():
        a, b = (model.losses(model.collate(p, items, None)) for p in (packs, other))
    assert torch.allclose(a, b, atol=1e-4)


def test_unlabelled_clips_are_left_out(packs):
    items = build("emotion_recognizer", packs).items(packs, np.arange(len(packs)))
    assert items[:, 0].tolist() == list(range(1, len(packs)))


@pytest.mark.parametrize("name", AUDIO + PAIRED)
def test_baselines_answer_for_the_same_items_and_parts(name, packs):
    view = View(packs, np.arange(len(packs)))
    module = audio_baselines if name in AUDIO else paired_baselines
    found = module.baselines({"architecture": name}, view, view)
    assert [b.level for b in found] == ["trivial", "simple"]
    model = build(name, packs).eval()
    items = model.items(packs, view.rows)
    with torch.no_grad():
        parts = model.predict(model.collate(packs, items, None))
    for baseline in found:
        assert np.array_equal(baseline.items, items)
        assert list(baseline.parts) == list(parts)
        for key, part in parts.items():
            other = baseline.parts[key]
            assert other.kind == part.kind and np.array_equal(other.count, part.count)
            assert all(np.allclose(x, y) for x, y in zip(other.target, part.target))


def test_the_simple_baselines_have_learned(packs):
    view = View(packs, np.arange(len(packs)))
    _, logistic = audio_baselines.baselines({"architecture": "emotion_recognizer"}, view, view)
    assert logistic.parts["emotion"].correct.mean() > 0.9
    for architecture_name, rows in ((("dynamics_engine"), audio_baselines), (("fusion"), paired_baselines)):
        trivial, simple = rows.baselines({"architecture": architecture_name}, view, view)
        part = next(iter(trivial.parts))
        error = [
            np.mean([np.square(t - p).mean() for t, p in zip(b.parts[part].target, b.parts[part].prediction)]) for b in (trivial, simple)
        ]
        assert error[1] < 0.5 * error[0]


def test_no_batch_norm(packs):
    for name in AUDIO + PAIRED:
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in build(name, packs).modules())


def test_a_dataset_without_labels_or_scores_says_so(packs, tmp_path):
    with PackWriter(tmp_path / "c.safetensors", {"classes": [], "target_names": []}) as writer:
        writer.add({n: np.array(packs.fixed(n)[0]) for n in packs.names() if n not in ("id", "group")}, {"id": "a", "group": "a"})
    with pytest.raises(ValueError, match="label rule"):
        build("emotion_recognizer", Pack(tmp_path / "c.safetensors"))
    with pytest.raises(ValueError, match=r"fields\.scores"):
        build("fusion", Pack(tmp_path / "c.safetensors"))
