"""Packed rows: bins as full as best fit makes them, and no row that notices what it shares a sequence with."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from test_loop import StopAfter
from tiny_bases import PACKABLE, chat_pack, make_base, new_lora
from toy import JOB
from trainyard.data.views import View
from trainyard.lora.packing import best_fit_decreasing, pack_rows
from trainyard.models.layers import sample_seeds
from trainyard.train.checkpoint import CheckpointStore
from trainyard.train.device import set_up
from trainyard.train.loop import Trainer
from trainyard.train.order import step_ends, steps_an_epoch
from trainyard.train.progress import Heartbeat
from trainyard.train.stopping import StopFlag, Stopped

CPU = torch.device("cpu")


def one_by_one(lengths, capacity):
    """Best-fit decreasing as it is defined: the number of bins."""
    room = []
    for length in sorted(lengths, reverse=True):
        fits = [i for i, left in enumerate(room) if left >= length]
        if fits:
            room[min(fits, key=lambda i: room[i])] -= length
        else:
            room.append(capacity - length)
    return len(room)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 60).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), max_size=80))))
def test_bins_hold_every_row_once_and_are_as_few_as_best_fit_needs(case):
    capacity, lengths = case
    bins = pack_rows(np.arange(len(lengths)) + 100, np.array(lengths, np.int64), capacity)
    assert sorted(bins[bins >= 0].tolist()) == list(range(100, 100 + len(lengths)))
    for line in bins:
        assert 0 < sum(lengths[row - 100] for row in line if row >= 0) <= capacity
    assert len(bins) == one_by_one(lengths, capacity)


def test_a_row_longer_than_a_bin_is_refused():
    for lengths in ([3, 9], [0, 2]):
        with pytest.raises(ValueError, match="do not go into bins of 8"):
            best_fit_decreasing(np.array(lengths), 8)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 40))
def test_an_optimiser_step_sees_as_many_samples_as_without_packing(samples, per_step):
    ends = step_ends(np.array(samples), per_step)
    assert len(ends) == steps_an_epoch(np.array(samples), per_step) == min(len(samples), -(-sum(samples) // per_step))
    assert ends[-1] == len(samples) and (np.diff(np.concatenate([[0], ends])) >= 1).all()
    if per_step >= max(samples):  # each step's last item is the one that comes nearest to the wished number
        seen = np.cumsum(samples)[ends - 1]
        wanted = np.minimum(per_step * np.arange(1, len(ends) + 1), sum(samples))
        assert (np.abs(seen - wanted)[:-1] <= max(samples)).all()
    assert step_ends(np.ones(10, int), 4).tolist() == [4, 8, 10]


def row_losses(model, pack, items, seeds=None):
    """Loss of each row, whatever sequence it is in."""
    batch = model.collate(pack, items, seeds)
    with sample_seeds(batch.get("seeds")):
        nats, _ = model.score(batch)
    owner = batch["row"][:, 1:] if "row" in batch else torch.from_numpy(items[:, :1]).expand_as(nats)
    return {int(row): float(nats[owner == row].sum().detach()) for row in items[items >= 0]}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return chat_pack(tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("kind", PACKABLE)
def test_packed_rows_have_the_losses_and_gradients_they_have_alone(tmp_path, pack, kind):
    model = new_lora(make_base(tmp_path, kind), pack, packing=True, max_length=96)
    rows, bins = model.items(pack, np.arange(len(pack))), model.training_items(pack, np.arange(len(pack)))
    assert len(bins) < 0.6 * len(rows) and bins.shape[1] > 1
    alone, packed = row_losses(model, pack, rows), row_losses(model, pack, bins)
    assert packed == pytest.approx(alone, rel=1e-4)
    grads = []
    for items in (rows, bins):
        model.zero_grad()
        model.losses(model.collate(pack, items, None)).sum().backward()
        grads.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert all(torch.allclose(g, grads[1][n], rtol=1e-3, atol=1e-3 * float(g.abs().max())) for n, g in grads[0].items())
    assert model.collate(pack, bins, None)["weight"].sum() == model.collate(pack, rows, None)["weight"].sum()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_changing_a_row_changes_no_other_rows_loss_not_even_under_dropout(tmp_path, pack, kind):
    model = new_lora(make_base(tmp_path, kind), pack, packing=True, max_length=96, dropout=0.3).train()
    bins, seeds = np.array([[3, 7, 1], [4, 2, -1]]), np.array([11, 12])
    before = row_losses(model, pack, bins, seeds)
    assert row_losses(model, pack, bins, seeds) == before != row_losses(model, pack, bins, seeds + 1)
    encoded = model.encoded(pack)
    encoded.ids[encoded.starts[7] : encoded.starts[8]] = 9
    changed = row_losses(model, pack, bins, seeds)
    assert {row for row in before if changed[row] != before[row]} == {7}
    # A row of another length moves the rows behind it: their words, positions and dropout stay what they were.
    moved = row_losses(model, pack, np.array([[3, 6, 1], [4, 2, -1]]), seeds)
    assert [moved[row] for row in (3, 1, 4, 2)] == pytest.approx([before[row] for row in (3, 1, 4, 2)], rel=1e-5)


def test_positions_alone_do_not_keep_rows_apart(tmp_path, pack):
    """What the mask is for: without it a row sees the ones before it."""
    model = new_lora(make_base(tmp_path, "llama"), pack, packing=True, max_length=96)
    batch = model.collate(pack, np.array([[3, 7, 1]]), None)
    nats, _ = model.score(batch)
    logits = model.model(input_ids=batch["input_ids"], attention_mask=torch.ones_like(batch["input_ids"])).logits[0, :-1]
    leaky = -logits.detach().log_softmax(-1).gather(1, batch["labels"][0, 1:, None])[:, 0] * batch["scored"][0, 1:]
    last = batch["row"][0, 1:] == 1
    assert float(leaky[last].sum()) != pytest.approx(float(nats[0, last].sum().detach()), rel=0.01)


@pytest.mark.parametrize(
    "kind, more, words",
    [
        ("bloom", {}, r"BloomForCausalLM\): it takes no position_ids"),
        ("lfm2", {}, r"Lfm2ForCausalLM\): a row's logits changed with the other row of its sequence"),
        ("mistral", {"sliding_window": 50}, "its sliding_window, 50, is shorter than max_length 96"),
    ],
)
def test_models_that_would_mix_rows_are_refused_by_name(tmp_path, pack, kind, more, words):
    base = make_base(tmp_path, kind, **more)
    with pytest.raises(ValueError, match=words):
        new_lora(base, pack, packing=True, max_length=96)
    new_lora(base, pack, max_length=96)


def trainer(tmp_path, base, pack, name, stop=None, **job):
    settings = {**JOB, "epochs": 2, "batch_size": 1, "accumulate": 6, **job}
    set_up(CPU, 1, settings["seed"])
    model = new_lora(base, pack, settings["seed"], False, packing=True, max_length=96, dropout=0.1)
    store, beat = CheckpointStore(tmp_path / name, 2), Heartbeat(tmp_path / f"{name}.json", suite="toy", run="toy")
    view = View(pack, np.arange(len(pack)))
    return Trainer(model, view, view, settings, CPU, store, beat, stop or StopFlag(), lambda _: None)


@pytest.mark.parametrize("looks", [1, 4])
def test_packed_training_stopped_anywhere_resumes_to_the_same_bits(tmp_path, pack, looks):
    base = make_base(tmp_path / "base", "llama")
    whole = trainer(tmp_path, base, pack, "whole")
    whole.run()
    assert whole.state.step == whole.steps == 2 * 4 and whole.samples.sum() == 24 and len(whole.items) < 14
    for attempt in range(40):  # noqa: B007
        parts = trainer(tmp_path, base, pack, "parts", StopAfter(looks))
        try:
            parts.run()
            break
        except Stopped:
            pass
    assert attempt > 1
    assert save(dict(parts.model.trainable_state())) == save(dict(whole.model.trainable_state()))
    assert parts.state.history == whole.state.history


def test_smaller_micro_batches_of_sequences_learn_the_same(tmp_path, pack):
    base = make_base(tmp_path / "base", "llama")
    runs = [trainer(tmp_path, base, pack, f"size{size}", batch_size=size, accumulate=6 // size) for size in (1, 3, 6)]
    for run in runs:
        run.run()
    first = runs[0].model.trainable_state()
    for run in runs[1:]:
        assert all(torch.allclose(tensor, first[name], rtol=1e-3, atol=1e-5) for name, tensor in run.model.trainable_state().items())
