"""Some real optimiser steps and validation batches, timed: what preflight predicts from."""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from trainyard.models.base import TrainyardModel
from trainyard.models.layers import sample_seeds
from trainyard.train.check import Check, fail, ok, warn
from trainyard.train.memory import free_cached, halve, is_out_of_memory
from trainyard.train.optimizer import AdamW
from trainyard.train.order import epoch_order, item_seeds

LEAST_STEPS, MOST_STEPS = 4, 40  # the first warms up and is not counted
ENOUGH_SECONDS, MOST_SECONDS = 1.5, 20.0


class Trial:
    """A few real optimiser steps on real batches, timed."""

    def __init__(self, model: TrainyardModel, pack: Any, items: np.ndarray, per_step: int, job: dict[str, Any], place: torch.device):
        """`per_step`: items of an optimiser step; micro-batches are of batch_size items, as in the loop."""
        self.model, self.pack, self.items, self.per_step, self.job, self.place = model, pack, items, per_step, job, place
        self.size = job["batch_size"]
        self.seconds: list[float] = []  # of an optimiser step, loading included
        self.load_seconds: list[float] = []
        self.evaluation_seconds: list[float] = []  # of a batch of twice the micro-batch
        self.checks: list[Check] = []

    def run(self) -> None:
        optimizer = AdamW(self.model, 0.0)
        optimizer.lr = 0.01 * self.job["lr"]  # the model that is looked at afterwards is as good as new
        self.model.train()
        began = time.perf_counter()
        losses: list[float] = []
        for number, indices in enumerate(self._batches()):
            load, whole, loss = self._one(optimizer, indices)
            losses.append(loss)
            if number:
                self.load_seconds.append(load)
                self.seconds.append(whole)
            spent = time.perf_counter() - began
            if not math.isfinite(loss) or spent > (ENOUGH_SECONDS if number >= LEAST_STEPS else MOST_SECONDS):
                break
        if not self.seconds:
            self.load_seconds, self.seconds = [load], [whole]
        bad = [n for n, p in self.model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
        if not all(map(math.isfinite, losses)) or bad:
            words = f"gradient of {bad[0]}" if bad else f"loss {losses[-1]}"
            self.checks.append(fail("step", f"{words} is not a number", "finite", "look at the data of the first batches; lower lr"))
            self.seconds = []
        elif not any(p.grad is not None and bool(p.grad.any()) for p in self.model.parameters()):
            self.checks.append(fail("step", "no gradient reaches any weight", "some", "no target in the batch: look at labels and windows"))
        else:
            self.checks.append(ok("step", f"loss {losses[0]:.4g}; forward, backward and update work", "finite"))
        if self.size < self.job["batch_size"]:
            words = f"{self.size} (out of memory at {self.job['batch_size']})"
            advice = "training takes smaller micro-batches, slower, for the same result"
            self.checks.append(warn("micro-batch", words, str(self.job["batch_size"]), advice).of_machine())

    @torch.no_grad()
    def evaluate(self, pack: Any, items: np.ndarray) -> dict[str, Any]:
        """Time batches of validation as the loop sees them; the predictions of the first."""
        self.model.eval()
        size = 2 * self.size
        for number in range(4):
            began = time.perf_counter()
            some = np.take(items, np.arange(number * size, (number + 1) * size), axis=0, mode="wrap")[: len(items)]
            batch = {k: v.to(self.place) for k, v in self.model.collate(pack, some, None).items()}
            float(self.model.losses(batch).sum())
            if number:
                self.evaluation_seconds.append(time.perf_counter() - began)
            else:
                parts = self.model.predict(batch)
        self.evaluated = len(some)
        return parts

    def _batches(self) -> Iterator[np.ndarray]:
        order = epoch_order(len(self.items), self.job["seed"], 0)
        for i in range(MOST_STEPS):
            # A data set smaller than the trial is gone through again.
            yield np.take(order, np.arange(i * self.per_step, (i + 1) * self.per_step), mode="wrap")[: len(order)]

    def _one(self, optimizer: AdamW, indices: np.ndarray) -> tuple[float, float, float]:
        """Seconds to load, seconds in all, and the loss of one batch."""
        while True:
            try:
                return self._attempt(optimizer, indices)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                optimizer.zero_grad()
            free_cached(self.place)
            self.size = halve(self.size)

    def _attempt(self, optimizer: AdamW, indices: np.ndarray) -> tuple[float, float, float]:
        began = time.perf_counter()
        seeds = item_seeds(indices, self.job["seed"], 0)
        parts = [slice(i, i + self.size) for i in range(0, len(indices), self.size)]
        batches = [self.model.collate(self.pack, self.items[indices[p]], seeds[p]) for p in parts]
        loaded = time.perf_counter() - began
        weight = max(float(sum(b["weight"].sum() for b in batches)), 1e-12)
        optimizer.zero_grad()
        total = 0.0
        for part, batch in zip(parts, batches):
            batch = {k: v.to(self.place) for k, v in batch.items()}
            with sample_seeds(batch["seeds"] if "seeds" in batch else torch.from_numpy(seeds[part])):
                loss = self.model.losses(batch).sum() / weight
                loss.backward()
            total += float(loss.detach())
        optimizer.step()
        return loaded, time.perf_counter() - began, total
