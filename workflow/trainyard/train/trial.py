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
        optimizer = _Adam([p for p in self.model.parameters() if p.requires_grad], 0.01 * self.job["lr"])
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

    def _one(self, optimizer: "_Adam", indices: np.ndarray) -> tuple[float, float, float]:
        """Seconds to load, seconds in all, and the loss of one batch."""
        while True:
            try:
                return self._attempt(optimizer, indices)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                optimizer.clear()
            free_cached(self.place)
            self.size = halve(self.size)

    def _attempt(self, optimizer: "_Adam", indices: np.ndarray) -> tuple[float, float, float]:
        began = time.perf_counter()
        seeds = item_seeds(indices, self.job["seed"], 0)
        parts = [slice(i, i + self.size) for i in range(0, len(indices), self.size)]
        batches = [self.model.collate(self.pack, self.items[indices[p]], seeds[p]) for p in parts]
        loaded = time.perf_counter() - began
        weight = max(float(sum(b["weight"].sum() for b in batches)), 1e-12)
        optimizer.clear()
        total = 0.0
        for part, batch in zip(parts, batches):
            batch = {k: v.to(self.place) for k, v in batch.items()}
            with sample_seeds(torch.from_numpy(seeds[part])):
                loss = self.model.losses(batch).sum() / weight
                loss.backward()
            total += float(loss.detach())
        optimizer.step()
        return loaded, time.perf_counter() - began, total


class _Adam:
    """Adam's memory and arithmetic without torch.optim, whose first optimiser imports torch's compiler: seconds a preflight
    (https://arxiv.org/abs/1412.6980; no bias correction: four steps at a hundredth of the rate teach nothing anyway)."""

    def __init__(self, parameters: list[torch.nn.Parameter], lr: float):
        self.parameters, self.lr = parameters, lr
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    def clear(self) -> None:
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for p, (first, second) in zip(self.parameters, self.moments):
            if p.grad is not None:
                first.lerp_(p.grad, 0.1)
                second.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                p.addcdiv_(first, second.sqrt().add_(1e-8), value=-self.lr)
