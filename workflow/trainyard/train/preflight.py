"""Preflight: everything that would fail at hour six, tried in a minute, with the run's own packs, model and machine.

Each check says what it found, its limit, a verdict (ok, warn, fail) and what to do. Training refuses on "fail".
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from trainyard.command import one_line
from trainyard.config.jobs import typed_options
from trainyard.data.storage import Speed, size
from trainyard.data.views import View, open_pack
from trainyard.host.gpus import usable_gpus
from trainyard.host.recommend import RULE_GB, recommend
from trainyard.host.resources import memory, usable_cores
from trainyard.models.base import TrainyardModel
from trainyard.models.layers import number_dropouts
from trainyard.models.registry import architecture
from trainyard.train.check import Check, fail, ok, verdict_of, warn
from trainyard.train.data_checks import check_columns, check_labels, check_leaks, check_values
from trainyard.train.decoders import check_decoders, kinds_of
from trainyard.train.device import choose_device, set_up
from trainyard.train.forecast import Work, forecast, saves_of
from trainyard.train.machine import Needs, check_device, check_disk, check_memory
from trainyard.train.memory import OutOfMemory
from trainyard.train.order import steps_an_epoch
from trainyard.train.preflight_table import duration
from trainyard.train.progress import peak_memory_mb
from trainyard.train.run_info import run_info, utc_now
from trainyard.train.splits import open_splits
from trainyard.train.storage_checks import check_far, check_mounts, check_sources, check_speed
from trainyard.train.trial import Trial

BATCH_SECONDS = 0.5
# As a person reads them: the data, the machine, the model, what it will cost.
ORDER = (
    "packs", "storage", "mount", "read", "sources", "audio", "resampler", "midi", "video", "labels", "classes", "targets", "columns",
    "values", "leaks", "groups", "device", "threads", "checkpoints", "model", "items", "step", "predict", "micro-batch", "batch", "memory",
    "disk", "parallel", "time",
)  # fmt: skip


@dataclass
class Preflight:
    """All checks of one model. `packs` names the files of train, validation and test; `checkpoints` where they will lie.

    runs: how many runs the model has; others: bytes of checkpoints that the suite's other models need; root and sources: the raw
    files, where they are to be looked at; gpus and mem_mb: what the configuration asks of the scheduler; far: of packs that are copies
    on a local disk (see near.py), those they are copies of.
    """

    job: dict[str, Any]
    packs: Mapping[str, str]
    paths: Mapping[str, str] = field(default_factory=dict)
    checkpoints: str = "checkpoints"
    device: str = "auto"
    threads: int = 1
    runs: int = 1
    others: int = 0
    root: str | None = None
    sources: Sequence[str] = ()
    gpus: int = 0
    mem_mb: int = 0
    far: Mapping[str, str] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    prediction: dict[str, Any] | None = None
    needs: Needs | None = None
    speed: Speed | None = None

    def run(self) -> dict[str, Any]:
        """Do all checks that can be done, and return the report."""
        started = utc_now()
        place = choose_device(self.device)
        set_up(place, self.threads, self.job["seed"])
        views = self._guard("packs", self._open)
        self._guard("storage", lambda: self.checks.extend(check_mounts({**self.packs, **self.far}, self.checkpoints)))
        kinds = kinds_of(self.job["format"], self.sources)
        self.checks += check_decoders(kinds)
        if self.root:
            self._guard("sources", lambda: self.checks.extend(check_sources(self.root or "", self.sources)))
        if views is not None:
            self._guard("read", self._read)
            # The model first: what the other checks take is no part of a training's memory.
            model = self._guard("model", lambda: self._build(views["train"]))
            if model is not None:
                self._guard("step", lambda: self._step(model.to(place), views, place))
            self._guard("labels", lambda: self.checks.extend(check_labels(views)))
            self._guard("columns", lambda: self.checks.extend(check_columns(views)))
            self._guard("values", lambda: self.checks.extend(check_values(views)))
            self._guard("leaks", lambda: self.checks.extend(check_leaks(views)))
        self._machine(place)
        self.checks.sort(key=lambda c: ORDER.index(c.check) if c.check in ORDER else len(ORDER))
        return {
            "suite": self.job["suite"], "model": self.job["model"], "run": self.job["run"], "runs": self.runs,
            "verdict": verdict_of(self.checks), "checks": [asdict(c) for c in self.checks], "prediction": self.prediction,
            "needs": asdict(self.needs) if self.needs else None, "decoders": kinds,
            "run_info": run_info(str(place), torch.get_num_threads(), started),
        }  # fmt: skip

    def _guard(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns; its error becomes a failed check."""
        try:
            return work()
        except Exception as error:
            words = one_line(error)
            if not isinstance(error, (ValueError, OSError, OutOfMemory)):
                words = f"{type(error).__name__}: {words}"
            found = fail(name, words, "", "see the message; correct the settings or make the local copy again")
            self.checks.append(found.of_machine() if isinstance(error, OutOfMemory) else found)
            return None

    # ---- data ---------------------------------------------------------------------------------------------------
    def _open(self) -> dict[str, View] | None:
        # One preflight stands for all folds of a model: they differ in who is left out, so the first is tried.
        fold = self.job.get("fold") or (1 if any("fold" in open_pack(path) for path in self.packs.values()) else 0)
        views = open_splits({**self.job, "fold": fold}, self.packs)
        counts = ", ".join(f"{len(v):,} {s}" for s, v in views.items())
        empty = [s for s, v in views.items() if not len(v)]
        if empty:
            self.checks.append(
                fail("packs", counts, "1 sample each", f"{' and '.join(empty)} is empty: more groups, fewer folds or other shares")
            )
            return None
        self.checks.append(ok("packs", f"{counts} samples, {size(self._pack_bytes())}", "1 sample each"))
        return views

    def _pack_bytes(self) -> int:
        return sum(os.path.getsize(path) for path in set(self.packs.values()))

    def _read(self) -> None:
        checks, self.speed = check_speed(list(self.packs.values()))
        self.checks += checks
        if self.far:
            self.checks += check_far(list(self.far.values()))

    # ---- model --------------------------------------------------------------------------------------------------
    def _build(self, train: View) -> TrainyardModel:
        began = time.perf_counter()
        model = architecture(self.job["architecture"]).from_pack(typed_options(self.job), train.pack, train.rows, self.paths)
        count = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        some = f", {trained:,} trained" if trained != count else ""
        self.checks.append(ok("model", f"{count:,} parameters{some}; built in {time.perf_counter() - began:.1f} s", ""))
        number_dropouts(model)
        return model

    def _step(self, model: TrainyardModel, views: dict[str, View], place: torch.device) -> None:
        items = model.training_items(views["train"].pack, views["train"].rows)
        held, asked = (model.items(views[split].pack, views[split].rows) for split in ("validation", "test"))
        empty = next((name for name, found in (("training", items), ("validation", held), ("test", asked)) if not len(found)), None)
        if empty:
            advice = "samples are shorter than a window of the model: lower its context"
            self.checks.append(fail("items", f"no {empty} item", "1", advice))
            return
        steps = steps_an_epoch(model.samples(items), self.job["batch_size"] * self.job["accumulate"])
        trial = Trial(model, views["train"].pack, items, math.ceil(len(items) / steps), self.job, place)
        trial.run()
        self.checks += trial.checks
        if not trial.seconds:
            return
        parts = trial.evaluate(views["validation"].pack, held)
        wrong = [name for name, part in parts.items() if len(part.count) != trial.evaluated]
        if wrong or not parts:
            value = ", ".join(wrong) or "no part"
            self.checks.append(fail("predict", value, f"{trial.evaluated} predictions a part", "the model's predict() is wrong"))
        else:
            self.checks.append(ok("predict", ", ".join(parts)))
        state = sum(t.numel() * t.element_size() for t in model.trainable_state().values())
        self._measure(trial, state, place)
        self._predict_time(trial, steps, len(held))

    def _measure(self, trial: Trial, state: int, place: torch.device) -> None:
        """What a run needs at its peak, from what the trial took."""
        # A checkpoint holds weights and two moments; one is written before an old one goes; the best weights lie beside.
        checkpoints = (self.job["checkpoint"]["keep"] + 1) * 3 * state + 2 * state
        # Beyond the trial a training holds the best weights and, while it saves, the bytes of a checkpoint.
        if place.type == "cuda":
            peak = float(torch.cuda.max_memory_reserved(place) + state)
        else:
            peak = peak_memory_mb() * 2**20 + 4 * state
        self.needs = Needs(checkpoints, round(peak / 2**20, 1), trial.size, place.type, self.gpus, self.mem_mb)

    # ---- machine and cost ---------------------------------------------------------------------------------------
    def _machine(self, place: torch.device) -> None:
        needs = self.needs or Needs(0, 0.0, 0, place.type, self.gpus, self.mem_mb)
        self.checks.append(check_device(needs, place))
        cores = usable_cores()
        if self.threads > cores:
            words = f"{self.threads} on {cores:g} core{'s' if cores != 1 else ''}"
            advice = f"more threads than cores make it slower: set threads: {max(1, int(cores))} for the model"
            self.checks.append(warn("threads", words, f"{cores:g}", advice).of_machine())
        if self.needs is None:
            return
        self.checks.append(check_memory(needs, place))
        runs = f"{self.runs} run{'s' if self.runs > 1 else ''}"
        whose = f"{runs} and of the models checked before" if self.others else runs
        self.checks.append(check_disk(needs.checkpoint_bytes * self.runs + self.others, self.checkpoints, whose))
        self.checks.append(self._parallel(cores, place))

    def _parallel(self, cores: float, place: torch.device) -> Check:
        """How many runs like this one the machine takes at once; and by the rule for runs of which nothing is known."""
        gigabytes, gpus = memory().total / 1024, len(usable_gpus(self.device))
        measured = self.needs.memory_mb if self.needs and place.type == "cpu" else 0.0
        gigabytes_a_run = max(float(self.mem_mb), measured) / 1024 or RULE_GB
        advice = recommend(cores, gigabytes, gpus, gigabytes_a_run, self.threads)
        rule = recommend(cores, gigabytes, gpus, RULE_GB, self.threads)
        value = f"{advice.runs} run{'s' if advice.runs > 1 else ''} like this at once, by {advice.bound} ({advice.reason})"
        if rule.runs != advice.runs:
            value += f"; {rule.runs} by the rule of {RULE_GB:g} GB a run, which is for runs nobody has measured"
        return ok("parallel", value).of_machine()

    def _predict_time(self, trial: Trial, steps: int, held: int) -> None:
        """`steps`: optimiser steps of an epoch, `held`: validation items."""
        job, epochs = self.job, self.job["epochs"]
        minutes = epochs * steps * float(np.median(trial.seconds)) / 60
        state = self.needs.checkpoint_bytes // (job["checkpoint"]["keep"] + 1) if self.needs else 0
        saves = saves_of(job["checkpoint"], epochs, epochs * steps, minutes)
        work = Work(epochs, steps, math.ceil(held / (2 * trial.size)), saves, state, self._pack_bytes())
        rate = (self.speed.megabytes if self.speed else 0) * 1e6
        found = forecast(work, trial.seconds, trial.load_seconds, trial.evaluation_seconds, rate, memory().free * 2**20)
        self.prediction = {**found, "steps": epochs * steps, "items": len(trial.items)}
        words = f"{duration(found['minutes'])} ({duration(found['low'])} to {duration(found['high'])}) a run, bound by {found['bound']}"
        self.checks.append(ok("time", words))
        load, count = found["load_seconds_per_step"] / math.ceil(trial.per_step / trial.size), min(trial.size, trial.per_step)
        slow = load > BATCH_SECONDS
        advice = "batches are slow to make: put the packs on a local disk, or lower batch_size" if slow else ""
        self.checks.append((warn if slow else ok)("batch", f"{load:.2g} s to make one of {count} items", f"{BATCH_SECONDS} s", advice))
