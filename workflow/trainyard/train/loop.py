"""The training loop: every model, LoRA adapters too, learns here.

State is small on purpose: the order of items and every random choice are functions of (seed, epoch, item), so a
resume restores weights, optimiser, step and history, and the rest follows to the same bits.
"""

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainyard.data.views import View
from trainyard.models.base import TrainyardModel
from trainyard.models.layers import number_dropouts, sample_seeds
from trainyard.train.checkpoint import CheckpointStore, Snapshot
from trainyard.train.memory import MemoryLadder, is_out_of_memory
from trainyard.train.optimizer import AdamW
from trainyard.train.order import epoch_order, item_seeds, step_ends, steps_an_epoch
from trainyard.train.progress import Heartbeat, Scalars, tell_nobody
from trainyard.train.saved import check_snapshot, snapshot_of, take_up
from trainyard.train.schedule import rate_at
from trainyard.train.state import State
from trainyard.train.stopping import StopFlag, Stopped

FLUSH_STEPS = 50
LOOK_AFTER = 5.0  # seconds that an evaluation is finished within when asked to stop; a longer one is begun again
NAMED = 8  # samples of a bad batch that are named


class Diverged(RuntimeError):
    """The loss is not a number any more."""


class Trainer:
    """Trains a model on a view to the end, or until it is asked to stop (Stopped).

    `job` are the run's settings. The heartbeat gets progress, the store checkpoints, `say` lines for the log, `tell` scalars.
    `origin` holds the checkpoints of the same training with fewer epochs, to go on from where the store has none.
    """

    def __init__(self, model: TrainyardModel, train: View, validation: View, job: dict[str, Any], device: torch.device,
                 store: CheckpointStore, heartbeat: Heartbeat, stop: StopFlag, say=print, tell: Scalars = tell_nobody,
                 origin: CheckpointStore | None = None):  # fmt: skip
        self.model, self.train_view, self.validation_view = model.to(device), train, validation
        self.job, self.device, self.store, self.heartbeat = job, device, store, heartbeat
        self.stop, self.say, self.tell, self.origin = stop, say, tell, origin
        number_dropouts(model)
        self.items = model.training_items(train.pack, train.rows)
        self.samples = model.samples(self.items)
        if len(self.items) == 0:
            raise ValueError("the training split holds nothing to train on")
        self.optimizer = AdamW(model, job["weight_decay"])
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.per_step = job["batch_size"] * job["accumulate"]
        per_epoch = steps_an_epoch(self.samples, self.per_step)
        self.steps = job["epochs"] * per_epoch
        self._schedule_steps = job.get("schedule_epochs", job["epochs"]) * per_epoch
        self.state = State()
        self.ladder = MemoryLadder(job["batch_size"], store.folder / "memory.json", device, say)
        self.best: dict[str, Tensor] | None = None
        self._pending: list[tuple[int, np.ndarray, float, Tensor, Tensor]] = []
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._clock = time.monotonic()

    def run(self) -> None:
        """Train to the last epoch; afterwards the model holds the selected weights."""
        self._resume()
        while self.state.epoch < self.job["epochs"]:
            self._leave_if_asked()  # before the first step: an attempt after the deadline is none
            self._epoch()
        if self.job["select"] == "best" and self.best is not None:
            self.model.load_trainable_state(self.best)
        self._tick()

    # ---- one epoch ---------------------------------------------------------------------------------------------
    def _epoch(self) -> None:
        state = self.state
        order = epoch_order(len(self.items), self.job["seed"], state.epoch)
        ends = step_ends(self.samples[order], self.per_step)
        self.model.train()
        for end_at in ends[np.searchsorted(ends, state.at, "right") :]:
            indices = order[state.at : end_at]
            if not self._step(indices):
                return  # the state is another one now, perhaps of another epoch
            state.at += len(indices)
            state.step += 1
            end = state.at >= len(order)
            if len(self._pending) >= FLUSH_STEPS or end:
                self._flush()
            if self.heartbeat.due(state.step):
                self._beat()
            if not end and (self._due() or self.stop.requested()):
                self._flush()
                self._save()
            self._leave_if_asked()
        self._end_epoch()

    def _end_epoch(self) -> None:
        state = self.state
        validation = self.evaluate(self.validation_view)
        if not math.isfinite(validation) and len(self.validation_view):
            raise Diverged(
                f"the validation loss is {validation} after epoch {state.epoch + 1}; {self._kept()}. "
                f"Lower the learning rate ({self.job['lr']}), or look at the data of the validation split"
            )
        rate = self._rate(state.step - 1)
        state.epoch += 1
        state.at = 0
        train_loss = state.loss_sum / max(state.weight_sum, 1e-12)
        state.history.append(
            {"epoch": state.epoch, "step": state.step, "lr": rate, "train_loss": train_loss, "validation_loss": validation}
        )
        state.loss_sum = state.weight_sum = 0.0
        if not math.isnan(validation) and validation < state.best_loss:
            state.best_loss, state.best_epoch = validation, state.epoch
            self.best = {k: v.detach().clone() for k, v in self.model.trainable_state().items()}
        self.say(f"epoch {state.epoch}/{self.job['epochs']} step {state.step} train_loss {train_loss:.5f} validation_loss {validation:.5f}")
        self.tell(state.step, {"loss/train_epoch": train_loss, "loss/validation": validation, "epoch": state.epoch})
        every = self.job["checkpoint"]["every_epochs"]
        last = state.epoch == self.job["epochs"]
        if last or (every and state.epoch % every == 0) or self._due() or self.stop.requested():
            self._save()
        self._beat()

    # ---- one optimiser step ------------------------------------------------------------------------------------
    def _step(self, indices: np.ndarray) -> bool:
        """One optimiser step over `indices`, in as many micro-batches as memory asks for.

        False when memory ran out among the updates: the weights were half new, and the last checkpoint was taken again.
        """
        step = self.state.step
        loss, weight = self.ladder.fit("training", step, lambda size: self._gradients(indices, size))
        self.optimizer.lr = self._rate(step)
        try:
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.job["clip"])
            self.optimizer.step()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            self.optimizer.zero_grad()
            self._pending.append((step, indices, weight, loss, norm))
            return True
        self.optimizer.zero_grad()
        self.ladder.lower("training", step)
        self._pending.clear()
        self._resume()
        return False

    def _gradients(self, indices: np.ndarray, size: int) -> tuple[Tensor, float]:
        self.optimizer.zero_grad()
        seeds = item_seeds(indices, self.job["seed"], self.state.epoch)
        parts = [slice(i, i + size) for i in range(0, len(indices), size)]
        batches = [self.model.collate(self.train_view.pack, self.items[indices[p]], seeds[p]) for p in parts]
        weight = sum(float(b["weight"].sum()) for b in batches)
        losses = []
        for part, batch in zip(parts, batches):
            batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
            with sample_seeds(batch["seeds"] if "seeds" in batch else torch.from_numpy(seeds[part])):
                loss = self.model.losses(batch).sum() / max(weight, 1e-12)
                loss.backward()
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum(), weight

    def _rate(self, step: int) -> float:
        return rate_at(step, self._schedule_steps, self.job["lr"], self.job["warmup"], self.job["schedule"])

    def _flush(self) -> None:
        """Bring the losses of the last steps to the CPU: one wait for many steps, and the place where NaN is seen."""
        if not self._pending:
            return
        losses = torch.stack([loss for *_, loss, _ in self._pending]).tolist()
        norms = torch.stack([norm for *_, norm in self._pending]).tolist()
        for (step, indices, weight, *_), loss, norm in zip(self._pending, losses, norms):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm} (loss {loss:.5g})"
                raise Diverged(
                    f"{what} at step {step} (epoch {self.state.epoch + 1}), batch {self._names(indices)}; {self._kept()}. "
                    f"Lower the learning rate ({self.job['lr']}), lengthen the warm-up, or look at the data of that batch"
                )
            self.state.loss_sum += loss * weight
            self.state.weight_sum += weight
        self.tell(step, {"loss/train": loss, "gradient_norm": norm, "lr": self._rate(step)})
        self._pending.clear()

    def _names(self, indices: np.ndarray) -> str:
        """Ids of the samples of a batch; the first few."""
        ids = self.model.sample_ids(self.train_view.pack, self.items[indices])
        return ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")

    def _kept(self) -> str:
        return f"the checkpoint of step {self._saved_step} is kept"

    @torch.no_grad()
    def evaluate(self, view: View) -> float:
        """Mean loss over a view; NaN when it is empty."""
        self.model.eval()
        loss = self.ladder.fit("evaluation", self.state.step, lambda size: self._mean_loss(view, size))
        self.model.train()
        return loss

    def _mean_loss(self, view: View, size: int) -> float:
        items = self.model.items(view.pack, view.rows)
        total = weight = 0.0
        began = time.monotonic()
        for part in batches_of(len(items), size):
            batch = {k: v.to(self.device) for k, v in self.model.collate(view.pack, items[part], None).items()}
            total += float(self.model.losses(batch).sum())
            weight += float(batch["weight"].sum())
            if time.monotonic() - began > LOOK_AFTER:
                self._leave_if_asked()
        return total / weight if weight else math.nan

    # ---- saving, resuming, leaving -----------------------------------------------------------------------------
    def _due(self) -> bool:
        """Whether to save now, by steps or by time."""
        steps, minutes = self.job["checkpoint"]["every_steps"], self.job["checkpoint"]["every_minutes"]
        return bool(steps and self.state.step % steps == 0) or bool(minutes and time.monotonic() - self._saved_at >= 60 * minutes)

    def _tick(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now

    def _save(self) -> None:
        self._tick()
        best = Snapshot(self.best, {"epoch": self.state.best_epoch}) if self.best is not None else None
        self.store.save(self.state.step, snapshot_of(self.model, self.optimizer, self.state), best)
        self._saved_at, self._saved_step = time.monotonic(), self.state.step

    def _resume(self) -> None:
        """Take up the newest checkpoint; where there is none, make one, so that there is always one to go back to."""
        found = self.store.latest(self.say, self._check)
        if self.origin is not None and (found is None or not found[0].state["step"]):
            found = self.origin.latest(self.say, self._check) or found
        if found is None:
            self._save()
            return
        snapshot, best = found
        self.state = take_up(snapshot, self.model, self.optimizer, self.device)
        # Copies: the file they are mapped from is removed in time.
        self.best = {k: v.to(self.device, copy=True) for k, v in best.tensors.items()} if best else None
        self._saved_step = self.state.step
        if self.state.step:
            self.say(f"resuming at step {self.state.step} of {self.steps} (epoch {self.state.epoch + 1})")

    def _check(self, snapshot: Snapshot) -> None:
        check_snapshot(snapshot, self.model, self.optimizer)

    def _leave_if_asked(self) -> None:
        if self.stop.requested():
            if self._saved_step != self.state.step:
                self._flush()
                self._save()
            raise Stopped(f"{self.stop.reason}; saved at step {self.state.step} of {self.steps}, run again to go on")

    def _beat(self) -> None:
        last = self.state.history[-1] if self.state.history else {}
        seen = self.state.loss_sum / self.state.weight_sum if self.state.weight_sum else last.get("train_loss")
        validation = last.get("validation_loss")
        self.heartbeat.beat(
            self.state.step,
            self.steps,
            self.per_step,
            epoch=min(self.state.epoch + 1, self.job["epochs"]),
            epochs=self.job["epochs"],
            loss=seen,
            validation_loss=None if validation is None or math.isnan(validation) else validation,
            last_checkpoint=self._saved_step,
        )


def batches_of(n: int, size: int) -> list[slice]:
    return [slice(i, min(n, i + size)) for i in range(0, n, size)]
