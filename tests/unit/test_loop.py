"""The training loop: learns, resumes to the same bits, survives running out of memory, stops when asked."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import save
from toy import JOB, ToyModel, toy_view
from trainyard.train.checkpoint import CheckpointStore
from trainyard.train.device import set_up
from trainyard.train.loop import Diverged, Trainer
from trainyard.train.memory import OutOfMemory
from trainyard.train.order import epoch_order, item_seeds
from trainyard.train.progress import Heartbeat
from trainyard.train.schedule import rate_at
from trainyard.train.stopping import StopFlag, Stopped

CPU = torch.device("cpu")


class StopAfter(StopFlag):
    """Asks to stop after a number of looks."""

    def __init__(self, looks: int):
        super().__init__()
        self.left = looks

    def requested(self):
        self.left -= 1
        if self.left < 0:
            self.reason = "received SIGTERM"
        return self.left < 0


def trainer(tmp_path, name="a", stop=None, job=JOB, fail_above=None, say=lambda _: None, n=50):
    set_up(CPU, 1, job["seed"])
    model = ToyModel()
    if fail_above is not None:
        model.fail_above = fail_above
    store = CheckpointStore(tmp_path / name, job["checkpoint"]["keep"])
    beat = Heartbeat(tmp_path / f"{name}.json", suite="toy", run="toy")
    return Trainer(model, toy_view(tmp_path, n), toy_view(tmp_path, n // 2, 1), job, CPU, store, beat, stop or StopFlag(), say)


def result(t):
    return save(dict(t.model.state_dict())), t.state.history


def test_learns(tmp_path):
    t = trainer(tmp_path, job={**JOB, "epochs": 30}, n=400)
    t.run()
    losses = [row["validation_loss"] for row in t.state.history]
    assert min(losses) < 0.5 * losses[0]
    assert t.evaluate(t.validation_view) == pytest.approx(min(losses))  # select: best


@pytest.mark.parametrize("looks", [1, 2, 4, 9, 13, 20])
def test_stopped_anywhere_resumes_to_the_same_bits(tmp_path, looks):
    whole = trainer(tmp_path, "whole")
    whole.run()
    attempts = 0
    while True:
        t = trainer(tmp_path, "parts", StopAfter(looks))
        attempts += 1
        try:
            t.run()
            break
        except Stopped:
            assert attempts < 60
    assert attempts > 1
    assert result(t) == result(whole)


def test_each_item_once_an_epoch_across_stops(tmp_path):
    seen = Counter()
    while True:
        t = trainer(tmp_path, stop=StopAfter(3))
        try:
            t.run()
            seen.update(t.model.seen)
            break
        except Stopped:
            seen.update(t.model.seen)
    assert set(seen.values()) == {JOB["epochs"]} and len(seen) == 50


def test_memory_ladder_keeps_the_effective_batch(tmp_path):
    lines = []
    plain, halved = trainer(tmp_path, "plain"), trainer(tmp_path, "halved", fail_above=2, say=lines.append)
    plain.run()
    halved.run()
    assert halved.ladder.size("training", halved.steps) == 2 and any("micro-batches of 2" in line for line in lines)
    a, b = plain.model.state_dict(), halved.model.state_dict()
    assert all(torch.allclose(a[k], b[k], atol=1e-5) for k in a)
    again = trainer(tmp_path, "halved")
    assert again.ladder.size("training", again.steps) == 2  # remembered


def test_out_of_memory_below_one_says_what_to_do(tmp_path):
    with pytest.raises(OutOfMemory, match="gradient checkpointing"):
        trainer(tmp_path, fail_above=0).run()


def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    first = trainer(tmp_path, stop=StopAfter(9))
    with pytest.raises(Stopped):
        first.run()
    t = trainer(tmp_path)
    t._resume()
    step = t.state.step
    t.model.net[0].weight.data[0, 0] = math.nan
    t._resume = lambda: None
    with pytest.raises(Diverged, match=rf"step {step} .*batch s\d+, .*; the checkpoint of step {step} is kept.*learning rate"):
        t.run()
    again = trainer(tmp_path)
    again.run()
    assert all(math.isfinite(row["train_loss"]) for row in again.state.history)


def test_order_is_a_permutation_and_seeds_do_not_depend_on_the_batch():
    order = epoch_order(100, 5, 2)
    assert sorted(order) == list(range(100)) and not np.array_equal(order, epoch_order(100, 5, 3))
    seeds = item_seeds(order, 5, 2)
    assert len(set(seeds.tolist())) == 100 and seeds.min() >= 0
    assert np.array_equal(seeds[10:20], item_seeds(order[10:20], 5, 2))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedule_rises_then_falls(schedule):
    rates = [rate_at(s, 100, 1.0, 0.1, schedule) for s in range(100)]
    assert rates[:10] == sorted(rates[:10]) and max(rates) == pytest.approx(1.0)
    falling = rates[10:]
    assert falling == sorted(falling, reverse=True)
    assert (rates[-1] < 0.02) == (schedule != "constant")
