"""The training loop: every model, LoRA adapters too, learns here.

State is small on purpose: the order of items and every random choice are functions of (seed, epoch, item), so a
resume restores weights, optimiser, step and history, and the rest follows to the same bits.
"""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainyard.data.views import View
from trainyard.models.base import TrainyardModel
from trainyard.models.layers import number_dropouts, sample_seeds
from trainyard.train.checkpoint import CheckpointStore, Snapshot
from trainyard.train.memory import free_cached, halve, is_out_of_memory
from trainyard.train.optimizer import AdamW
from trainyard.train.order import epoch_order, item_seeds
from trainyard.train.progress import Heartbeat
from trainyard.train.schedule import rate_at
from trainyard.train.stopping import StopFlag, Stopped

FLUSH_STEPS = 50


class Diverged(RuntimeError):
    """The loss is not a number any more."""


@dataclass
class State:
    """Where a training is. All of it goes into a checkpoint."""

    epoch: int = 0
    at: int = 0  # items of this epoch already seen
    step: int = 0
    micro_batch: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float = math.inf
    best_epoch: int = 0


class Trainer:
    """Trains a model on a view to the end, or until it is asked to stop (Stopped).

    `job` are the run's settings. The heartbeat gets progress, the store checkpoints, `say` lines for the log.
    """

    def __init__(self, model: TrainyardModel, train: View, validation: View, job: dict[str, Any], device: torch.device,
                 store: CheckpointStore, heartbeat: Heartbeat, stop: StopFlag, say=print):  # fmt: skip
        self.model, self.train_view, self.validation_view = model.to(device), train, validation
        self.job, self.device, self.store, self.heartbeat, self.stop, self.say = job, device, store, heartbeat, stop, say
        number_dropouts(model)
        self.items = model.items(train.pack, train.rows)
        if len(self.items) == 0:
            raise ValueError("the training split holds nothing to train on")
        self.optimizer = AdamW(model, job["weight_decay"])
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.per_step = job["batch_size"] * job["accumulate"]
        self.steps = job["epochs"] * math.ceil(len(self.items) / self.per_step)
        self.state = State(micro_batch=job["batch_size"])
        self.best: dict[str, Tensor] | None = None
        self._pending: list[tuple[int, Tensor, float]] = []
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._clock = time.monotonic()

    def run(self) -> None:
        """Train to the last epoch; afterwards the model holds the selected weights."""
        self._resume()
        while self.state.epoch < self.job["epochs"]:
            self._epoch()
        if self.job["select"] == "best" and self.best is not None:
            self.model.load_trainable_state(self.best)
        self._tick()

    # ---- one epoch ---------------------------------------------------------------------------------------------
    def _epoch(self) -> None:
        state = self.state
        order = epoch_order(len(self.items), self.job["seed"], state.epoch)
        self.model.train()
        while state.at < len(order):
            indices = order[state.at : state.at + self.per_step]
            self._step(indices)
            state.at += len(indices)
            state.step += 1
            end = state.at >= len(order)
            if len(self._pending) >= FLUSH_STEPS or end:
                self._flush()
            self._beat()
            if not end and (self._due_by_step() or self.stop.requested()):
                self._flush()
                self._save()
            self._leave_if_asked()
        self._end_epoch()

    def _end_epoch(self) -> None:
        state = self.state
        validation = self.evaluate(self.validation_view)
        rate = rate_at(state.step - 1, self.steps, self.job["lr"], self.job["warmup"], self.job["schedule"])
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
        every = self.job["checkpoint"]["every_epochs"]
        last = state.epoch == self.job["epochs"]
        if last or (every and state.epoch % every == 0) or self._due_by_time() or self.stop.requested():
            self._save()
        self._beat(force=True)
        if not last:
            self._leave_if_asked()

    # ---- one optimiser step ------------------------------------------------------------------------------------
    def _step(self, indices: np.ndarray) -> None:
        """One optimiser step over `indices`, in as many micro-batches as memory asks for."""
        while True:
            try:
                loss, weight = self._gradients(indices)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.optimizer.zero_grad()
            free_cached(self.device)
            self.state.micro_batch = halve(self.state.micro_batch)
            self.say(
                f"out of memory at step {self.state.step}: going on with micro-batches of {self.state.micro_batch}, same effective batch"
            )
        self.optimizer.lr = rate_at(self.state.step, self.steps, self.job["lr"], self.job["warmup"], self.job["schedule"])
        torch.nn.utils.clip_grad_norm_(self.parameters, self.job["clip"])
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._pending.append((self.state.step, loss, weight))

    def _gradients(self, indices: np.ndarray) -> tuple[Tensor, float]:
        seeds = item_seeds(indices, self.job["seed"], self.state.epoch)
        size = self.state.micro_batch
        parts = [slice(i, i + size) for i in range(0, len(indices), size)]
        batches = [self.model.collate(self.train_view.pack, self.items[indices[p]], seeds[p]) for p in parts]
        weight = float(sum(b["weight"].sum() for b in batches))
        total = torch.zeros((), device=self.device)
        for part, batch in zip(parts, batches):
            batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
            with sample_seeds(torch.from_numpy(seeds[part])):
                loss = self.model.losses(batch).sum() / max(weight, 1e-12)
                loss.backward()
            total += loss.detach()
        return total, weight

    def _flush(self) -> None:
        """Bring the losses of the last steps to the CPU: one wait for many steps, and the place where NaN is seen."""
        if not self._pending:
            return
        values = torch.stack([loss for _, loss, _ in self._pending]).tolist()
        for (step, _, weight), value in zip(self._pending, values):
            if not math.isfinite(value):
                raise Diverged(
                    f"the loss is {value} at step {step} (epoch {self.state.epoch + 1}); the last checkpoint is kept. "
                    f"Lower the learning rate ({self.job['lr']}), lengthen the warm-up, or look at the data of that batch"
                )
            self.state.loss_sum += value * weight
            self.state.weight_sum += weight
        self._pending.clear()

    @torch.no_grad()
    def evaluate(self, view: View) -> float:
        """Mean loss over a view; NaN when it is empty."""
        self.model.eval()
        items = self.model.items(view.pack, view.rows)
        total = weight = 0.0
        for part in batches_of(len(items), self.state.micro_batch * 2):
            batch = {k: v.to(self.device) for k, v in self.model.collate(view.pack, items[part], None).items()}
            total += float(self.model.losses(batch).sum())
            weight += float(batch["weight"].sum())
        self.model.train()
        return total / weight if weight else math.nan

    # ---- saving, resuming, leaving -----------------------------------------------------------------------------
    def _due_by_step(self) -> bool:
        every = self.job["checkpoint"]["every_steps"]
        return bool(every and self.state.step % every == 0) or self._due_by_time()

    def _due_by_time(self) -> bool:
        minutes = self.job["checkpoint"]["every_minutes"]
        return bool(minutes) and time.monotonic() - self._saved_at >= 60 * minutes

    def _tick(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now

    def _save(self) -> None:
        self._tick()
        tensors = {f"model.{k}": v for k, v in self.model.trainable_state().items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.tensors().items()}
        best = Snapshot(self.best, {"epoch": self.state.best_epoch}) if self.best is not None else None
        state = {k: v for k, v in vars(self.state).items() if k != "best_loss"}
        state["best_loss"] = None if math.isinf(self.state.best_loss) else self.state.best_loss
        state["threads"] = torch.get_num_threads()
        self.store.save(self.state.step, Snapshot(tensors, state), best)
        self._saved_at, self._saved_step = time.monotonic(), self.state.step

    def _resume(self) -> None:
        found = self.store.latest(self.say)
        if found is None:
            return
        snapshot, best = found
        state = dict(snapshot.state)
        threads = state.pop("threads")
        if state["best_loss"] is None:
            state["best_loss"] = math.inf
        self.state = State(**state)
        torch.set_num_threads(threads)  # another number of threads sums in another order: other bits
        split = lambda prefix: {k.removeprefix(prefix): v for k, v in snapshot.tensors.items() if k.startswith(prefix)}  # noqa: E731
        self.model.load_trainable_state({k: v.to(self.device) for k, v in split("model.").items()})
        self.optimizer.load_tensors(split("optimizer."))
        self.best = {k: v.to(self.device) for k, v in best.tensors.items()} if best else None
        self._saved_step = self.state.step
        self.say(f"resuming at step {self.state.step} of {self.steps} (epoch {self.state.epoch + 1})")

    def _leave_if_asked(self) -> None:
        if self.stop.requested():
            if self._saved_step != self.state.step:
                self._flush()
                self._save()
            raise Stopped(f"{self.stop.reason}; saved at step {self.state.step} of {self.steps}, run again to go on")

    def _beat(self, force: bool = False) -> None:
        last = self.state.history[-1] if self.state.history else {}
        seen = self.state.loss_sum / self.state.weight_sum if self.state.weight_sum else last.get("train_loss")
        validation = last.get("validation_loss")
        self.heartbeat.beat(
            self.state.step,
            self.steps,
            self.per_step,
            force,
            epoch=min(self.state.epoch + 1, self.job["epochs"]),
            epochs=self.job["epochs"],
            loss=seen,
            validation_loss=None if validation is None or math.isnan(validation) else validation,
            last_checkpoint=self._saved_step,
        )


def batches_of(n: int, size: int) -> list[slice]:
    return [slice(i, min(n, i + size)) for i in range(0, n, size)]
