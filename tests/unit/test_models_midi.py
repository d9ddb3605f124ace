"""The MIDI models and their baselines: what they may look at, that they learn, that baselines are distributions."""

import numpy as np
import pytest
import torch
from trainyard.baselines import midi as midi_baselines
from trainyard.baselines.ngram import NGram
from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.features import MidiFeatures
from trainyard.data.generate import lakh
from trainyard.data.midi import NO_CHORD, MidiReader
from trainyard.data.midi_items import groove_items, harmony_items, harmony_window, melody_items, melody_window
from trainyard.data.pack import Pack, PackWriter
from trainyard.data.views import View
from trainyard.models.harmony_predictor import transpose_chords
from trainyard.models.layers import sample_seeds
from trainyard.models.registry import architecture

NAMES = ("melody_transformer", "harmony_predictor", "groove_predictor")
SMALL = {
    "melody_transformer": {"width": 32, "context": 32},
    "harmony_predictor": {"width": 16, "hidden": 32, "context": 9},
    "groove_predictor": {"width": 16},
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("packs") / "songs.safetensors"
    reader = MidiReader(MidiFeatures(), None, {})
    with PackWriter(path, {"format": "midi", **reader.meta()}) as writer:
        for seed in range(8):
            fixed, ragged = reader.read([lakh.encode(lakh.compose(np.random.default_rng(seed), 16))], {"path": ""})
            writer.add(fixed, {**ragged, "id": f"song{seed}", "group": f"song{seed}"})
    return Pack(path)


def build(name, pack, rows=range(6)):
    torch.manual_seed(0)
    options = ARCHITECTURES[name].options(**SMALL[name])
    return architecture(name).from_pack(options, pack, np.array(rows), {})


def batch_of(model, pack, rows=(0, 1, 2, 3), seeds=False):
    items = model.items(pack, np.array(rows))
    return items, model.collate(pack, items, np.arange(len(items)) if seeds else None)


@pytest.mark.parametrize("name", NAMES)
def test_loss_falls(name, pack):
    model = build(name, pack).train()
    items, _ = batch_of(model, pack)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for epoch in range({"melody_transformer": 12, "harmony_predictor": 60, "groove_predictor": 20}[name]):
        seeds = np.arange(len(items)) + 1000 * epoch
        batch = model.collate(pack, items, seeds)
        with sample_seeds(torch.from_numpy(seeds)):
            loss = model.losses(batch).sum() / batch["weight"].sum()
            optimiser.zero_grad()
            loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.85 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_an_items_loss_does_not_depend_on_its_batch(name, pack):
    model = build(name, pack).train()
    items = model.items(pack, np.arange(8))
    seeds = np.arange(len(items)) * 7919
    with torch.no_grad():
        with sample_seeds(torch.from_numpy(seeds)):
            together = model.losses(model.collate(pack, items, seeds))
        for i in (0, 3, len(items) - 1):
            with sample_seeds(torch.from_numpy(seeds[i : i + 1])):
                alone = model.losses(model.collate(pack, items[i : i + 1], seeds[i : i + 1]))
            assert torch.allclose(alone[0], together[i], rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_and_baselines_cover_the_same_items_and_targets(name, pack):
    model = build(name, pack).eval()
    train, held = View(pack, np.arange(6)), View(pack, np.array([6, 7]))
    items, batch = batch_of(model, pack, held.rows)
    with torch.no_grad():
        parts = model.predict(batch)
    found = midi_baselines.baselines(
        {"architecture": name, "options": ARCHITECTURES[name].options(**SMALL[name]).model_dump()}, train, held
    )
    assert {b.level for b in found} == {"trivial", "simple"}
    for baseline in found:
        assert np.array_equal(baseline.items, items) and list(baseline.parts) == list(parts)
        for part, out in baseline.parts.items():
            assert np.array_equal(out.count, parts[part].count) and out.count.sum() > 0
            for a, b in zip(out.target, parts[part].target):
                assert np.array_equal(a, b)
    assert sum(next(iter(parts.values())).count) == batch["weight"].sum()


def test_melody_sees_no_future(pack):
    model = build("melody_transformer", pack).eval()
    _, batch = batch_of(model, pack)
    with torch.no_grad():
        before = model._scores(batch["notes"])
        for place in (5, 20):
            changed = batch["notes"].clone()
            changed[:, place, 0] = (changed[:, place, 0] + 7) % 61
            changed[:, place, 1] = (changed[:, place, 1] + 3) % 8
            after = model._scores(changed)
            for part in (0, 1):
                # Note k is predicted at k − 1: those before the changed one must not move, those after it do.
                assert torch.equal(before[part][0][:, : place - 1], after[part][0][:, : place - 1])
                assert not torch.allclose(before[part][0][:, place], after[part][0][:, place])


def test_harmony_sees_no_future(pack):
    model = build("harmony_predictor", pack).eval()
    _, batch = batch_of(model, pack)
    changed = {k: v.clone() for k, v in batch.items()}
    changed["chords"][:, 4] = (changed["chords"][:, 4] + 5) % NO_CHORD
    changed["chroma"][:, 4] = 1 / 12
    with torch.no_grad():
        before, after = model._scores(batch)[0], model._scores(changed)[0]
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 4], after[:, 4])


def test_groove_sees_no_velocity_or_timing(pack):
    model = build("groove_predictor", pack).eval()
    _, batch = batch_of(model, pack)
    changed = {**batch, "played": torch.zeros_like(batch["played"])}
    with torch.no_grad():
        a, b = model.predict(batch), model.predict(changed)
    for part in a:
        assert all(np.array_equal(x, y) for x, y in zip(a[part].prediction, b[part].prediction))


def test_every_note_and_chord_is_predicted_once(pack):
    rows = np.arange(len(pack))
    for row in rows:
        windows = [melody_window(pack, item, 20) for item in melody_items(pack, np.array([row]), 20)]
        predicted = np.concatenate([w[1:] for w in windows])
        whole = pack.at("melody", row)[1:]
        assert np.array_equal(predicted, whole[: len(predicted)]) and len(whole) - len(predicted) <= 8
        chords = np.concatenate([harmony_window(pack, item, 6)[0][1:] for item in harmony_items(pack, np.array([row]), 6)])
        assert np.array_equal(chords, pack.at("chords", row)[1 : len(chords) + 1])
        assert len(groove_items(pack, np.array([row]))) == 8  # 16 bars


def test_transposed_chords_keep_their_kind():
    chords = np.array([0, 11, 12, 23, NO_CHORD])
    assert transpose_chords(chords, 1).tolist() == [1, 0, 13, 12, NO_CHORD]
    assert np.array_equal(transpose_chords(transpose_chords(chords, 5), 7), chords)


def test_ngrams_are_distributions_and_learn():
    rng = np.random.default_rng(0)
    a = rng.integers(-1, 5, 3000)
    b = rng.integers(0, 3, 3000)
    target = np.where(rng.random(3000) < 0.8, (a + b) % 7, rng.integers(0, 7, 3000))
    model = NGram([(), ("a",), ("a", "b")], 7).fit({"a": a[:2000], "b": b[:2000]}, target[:2000])
    asked = {"a": np.append(a[2000:], [99, -5]), "b": np.append(b[2000:], [0, 44])}
    p = model.probabilities(asked, 1002)
    assert (p > 0).all() and np.allclose(p.sum(1), 1)
    assert p[np.arange(1000), target[2000:]].mean() > 0.6
    unigram = NGram([()], 7).fit({}, target[:2000]).probabilities({}, 1)[0]
    assert np.allclose(p[1000], unigram)  # a context never seen falls back
    assert np.allclose(unigram, np.bincount(target[:2000], minlength=7) / 2000, atol=0.01)


@pytest.mark.parametrize("name", ("melody_transformer", "harmony_predictor"))
def test_token_baselines_give_proper_probabilities(name, pack, monkeypatch):
    seen = []
    scores = midi_baselines.token_scores
    monkeypatch.setattr(midi_baselines, "token_scores", lambda p, *rest: seen.append(p) or scores(p, *rest))
    settings = {"architecture": name, "options": {"context": 16}}
    midi_baselines.baselines(settings, View(pack, np.arange(6)), View(pack, np.array([6, 7])))
    assert len(seen) >= 5
    for p in seen:
        assert (p >= 0).all() and np.allclose(p.sum(1), 1)


def test_groove_means_are_of_the_training_hits(pack):
    train, held = View(pack, np.arange(6)), View(pack, np.array([6, 7]))
    mean, cells = midi_baselines.baselines({"architecture": "groove_predictor", "options": {}}, train, held)
    hits = np.concatenate([pack.at("hits", r) for r in train.rows]).astype(float)
    assert mean.parts["velocity"].prediction[0][0] == pytest.approx(hits[:, 2].mean(), abs=0.5)
    # By step, then drum: the first hit of a window is the lowest drum class on its first step.
    row, bar = cells.items[0]
    first = pack.at("hits", row)[0]
    here = hits[(hits[:, 0] % 32 == first[0] % 32) & (hits[:, 1] == first[1])]
    assert cells.parts["velocity"].prediction[0][0] == pytest.approx(here[:, 2].mean(), abs=1e-3)
