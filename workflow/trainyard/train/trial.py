"""A few real optimiser steps on real batches, timed: what preflight predicts from."""

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

STEPS = 4  # the first warms up and is not counted
MOST_SECONDS = 20.0


class Trial:
    """A few real optimiser steps on real batches, timed."""

    def __init__(self, model: TrainyardModel, pack: Any, items: np.ndarray, job: dict[str, Any], place: torch.device):
        self.model, self.pack, self.items, self.job, self.place = model, pack, items, job, place
        self.size = job["batch_size"]
        self.seconds: list[float] = []
        self.load_seconds: list[float] = []
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
            if not math.isfinite(loss) or time.perf_counter() - began > MOST_SECONDS:
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
            words = f"out of memory at {self.job['batch_size']}"
            self.checks.append(
                warn(
                    "micro-batch",
                    f"{self.size} ({words})",
                    str(self.job["batch_size"]),
                    "training uses smaller micro-batches, slower",
                )
            )

    def _batches(self) -> Iterator[np.ndarray]:
        order = epoch_order(len(self.items), self.job["seed"], 0)
        for i in range(STEPS):
            # A data set smaller than the trial is gone through again.
            yield np.take(order, np.arange(i * self.job["batch_size"], (i + 1) * self.job["batch_size"]), mode="wrap")[: len(order)]

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
            with sample_seeds(torch.from_numpy(seeds[part])):
                loss = self.model.losses(batch).sum() / weight
                loss.backward()
            total += float(loss.detach())
        optimizer.step()
        return loaded, time.perf_counter() - began, total
