"""When a training saves: by steps, by epochs, by the clock. That the clock's saves are as good to go on from as the others."""

import time

import pytest
from small_run import SmallRun, killed_training
from test_loop import trainer
from toy import JOB
from trainyard.train.checkpoint import CheckpointStore

NEVER = {"every_epochs": 0, "every_steps": 0, "every_minutes": 0, "keep": 2}
STEPS = 7  # of an epoch: 50 samples, 8 a step


def saves(tmp_path, monkeypatch, epochs: int, **interval) -> list[tuple[int, float]]:
    """Step and time of every save of a training."""
    found, save = [], CheckpointStore.save

    def seen(self, step, snapshot, best):
        save(self, step, snapshot, best)
        found.append((step, time.monotonic()))

    monkeypatch.setattr(CheckpointStore, "save", seen)
    trainer(tmp_path, job={**JOB, "epochs": epochs, "checkpoint": {**NEVER, **interval}}).run()
    return found


@pytest.mark.parametrize(
    ("interval", "steps"),
    [
        ({}, [0, 6 * STEPS]),
        ({"every_epochs": 2}, [0, 2 * STEPS, 4 * STEPS, 6 * STEPS]),
        ({"every_epochs": 4}, [0, 4 * STEPS, 6 * STEPS]),
        ({"every_steps": 10}, [0, 10, 20, 30, 40, 6 * STEPS]),
        ({"every_steps": 2 * STEPS}, [0, 2 * STEPS, 4 * STEPS, 6 * STEPS]),
        ({"every_steps": 10, "every_epochs": 3}, [0, 10, 20, 21, 30, 40, 6 * STEPS]),
    ],
)
def test_steps_and_epochs_save_when_they_say_and_the_first_and_last_state_is_always_kept(tmp_path, monkeypatch, interval, steps):
    assert [step for step, _ in saves(tmp_path, monkeypatch, 6, **interval)] == steps


def test_minutes_save_within_an_epoch_and_never_sooner(tmp_path, monkeypatch):
    minutes = 0.001
    found = saves(tmp_path, monkeypatch, 300, every_minutes=minutes)
    between = [b - a for (_, a), (_, b) in zip(found, found[1:])]
    assert len(found) > 5, "a training of a second and more"
    assert min(between[:-1]) >= 60 * minutes - 0.02, "counted from save to save; the last state is saved in any case"
    assert any(step % STEPS for step, _ in found), "the clock does not wait for the end of an epoch"


def test_killed_between_two_saves_by_the_clock_it_ends_with_the_same_bytes(tmp_path):
    packs = killed_training.make_packs(tmp_path)
    whole = SmallRun(packs, tmp_path / "whole", epochs=120)
    run = SmallRun(packs, tmp_path / "run", epochs=120, checkpoint={**NEVER, "every_minutes": 0.002})
    assert whole.call().returncode == 0
    process = run.start()
    try:
        for _ in range(3000):
            if (run.progress().get("last_checkpoint") or 0) > 0:
                break
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    assert not (tmp_path / "run" / "out" / "model.safetensors").exists(), "it was killed before its end"
    done = run.call()
    assert done.returncode == 0 and "resuming at step" in done.stdout and "resuming at step 0 " not in done.stdout
    assert run.results() == whole.results()
