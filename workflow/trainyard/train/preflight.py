"""Preflight: everything that would fail at hour six, tried in a minute, with the run's own packs, model and machine.

Each check says what it found, its limit, a verdict (ok, warn, fail) and what to do. Training refuses on "fail".
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from trainyard.config.jobs import typed_options
from trainyard.data.storage import describe, free_bytes, probe
from trainyard.data.views import View, open_view
from trainyard.models.base import TrainyardModel
from trainyard.models.layers import number_dropouts
from trainyard.models.registry import architecture
from trainyard.train.check import Check, fail, ok, verdict_of, warn
from trainyard.train.data_checks import check_labels, check_leaks, check_values
from trainyard.train.device import choose_device, set_up
from trainyard.train.machine import available_memory_mb, check_decoders
from trainyard.train.progress import peak_memory_mb
from trainyard.train.run_info import run_info, utc_now
from trainyard.train.trial import Trial

BATCH_SECONDS = 0.5
EVALUATION = 0.35  # a forward pass costs about a third of a step
MEMORY_SHARE = 0.9


@dataclass
class Preflight:
    """All checks of one run. `packs` names the files of train, validation and test; `checkpoints` where they will lie."""

    job: dict[str, Any]
    packs: Mapping[str, str]
    paths: Mapping[str, str] = field(default_factory=dict)
    checkpoints: str = "checkpoints"
    device: str = "auto"
    threads: int = 1
    checks: list[Check] = field(default_factory=list)
    prediction: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        """Do all checks that can be done, and return the report."""
        started = utc_now()
        place = choose_device(self.device)
        set_up(place, self.threads, self.job["seed"])
        views = self._guard("packs", self._open)
        self.checks += check_decoders(self.job["format"])
        if views is not None:
            self._guard("storage", self._storage)
            self._guard("labels", lambda: self.checks.extend(check_labels(views)))
            self._guard("values", lambda: self.checks.extend(check_values(views)))
            self._guard("leaks", lambda: self.checks.extend(check_leaks(views)))
            model = self._guard("model", lambda: self._build(views["train"]))
            if model is not None:
                self._guard("step", lambda: self._step(model.to(place), views, place))
                self._guard("disk", lambda: self._disk(model))
        report = {
            "suite": self.job["suite"], "model": self.job["model"], "run": self.job["run"], "verdict": verdict_of(self.checks),
            "checks": [asdict(c) for c in self.checks], "prediction": self.prediction,
            "run_info": run_info(str(place), torch.get_num_threads(), started),
        }  # fmt: skip
        return report

    def _guard(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns; its error becomes a failed check."""
        try:
            return work()
        except Exception as error:
            words = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, (ValueError, OSError)):
                words = f"{type(error).__name__}: {words}"
            self.checks.append(fail(name, words, "", "see the message; correct the settings or make the local copy again"))
            return None

    # ---- data ---------------------------------------------------------------------------------------------------
    def _open(self) -> dict[str, View]:
        views = {split: open_view(path, split, self._fold(path)) for split, path in self.packs.items()}
        counts = ", ".join(f"{len(v):,} {s}" for s, v in views.items())
        empty = [s for s, v in views.items() if not len(v)]
        if empty:
            self.checks.append(
                fail("packs", counts, "1 sample each", f"{' and '.join(empty)} is empty: more groups, fewer folds or other shares")
            )
            return None  # type: ignore[return-value]
        self.checks.append(ok("packs", f"{counts} samples", "1 sample each"))
        return views

    def _fold(self, path: str) -> int:
        if self.job.get("fold"):
            return int(self.job["fold"])
        from trainyard.data.views import open_pack

        # One preflight stands for all folds of a model: they differ in who is left out, so the first is tried.
        return 1 if "fold" in open_pack(path) else 0

    def _storage(self) -> None:
        path = self.packs["train"]
        mount = describe(path)
        advice = f"the packs lie on {mount.name}, which is slow for training: put `results` on a local disk, or let the job copy them first"
        self.checks.append(ok("storage", mount.name, "local disk") if mount.local else warn("storage", mount.name, "local disk", advice))
        speed = probe(list(dict.fromkeys(self.packs.values())), seconds=1.0, drop=not mount.local)
        if speed is not None:
            rate = f", {speed.megabytes:,.0f} MB/s" if speed.megabytes else ""
            slow = speed.latency > 0.02
            words = "opening a file takes long: train from a local disk"
            self.checks.append((warn if slow else ok)("latency", f"{speed.latency * 1e3:.2f} ms{rate}", "20 ms", words if slow else ""))

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
        items = model.items(views["train"].pack, views["train"].rows)
        held = model.items(views["validation"].pack, views["validation"].rows)
        if not len(items) or not len(held):
            empty = "training" if not len(items) else "validation"
            self.checks.append(
                fail(
                    "items",
                    f"no {empty} item",
                    "1",
                    "samples are shorter than a window of the model: lower its context",
                )
            )
            return
        trial = Trial(model, views["train"].pack, items, self.job, place)
        trial.run()
        self.checks += trial.checks
        if trial.seconds:
            self._predict_time(trial, len(items), len(held))
            self._predict_once(model, views["validation"], held, place)
            self._memory(place)

    def _predict_once(self, model: TrainyardModel, view: View, items: np.ndarray, place: torch.device) -> None:
        model.eval()
        some = items[: min(2, len(items))]
        with torch.no_grad():
            parts = model.predict({k: v.to(place) for k, v in model.collate(view.pack, some, None).items()})
        wrong = [name for name, part in parts.items() if len(part.count) != len(some)]
        if wrong or not parts:
            self.checks.append(
                fail("predict", f"{', '.join(wrong) or 'no part'}", f"{len(some)} predictions a part", "the model's predict() is wrong")
            )
        else:
            self.checks.append(ok("predict", ", ".join(parts), ""))

    def _memory(self, place: torch.device) -> None:
        if place.type == "cuda":
            need, there = torch.cuda.max_memory_reserved(place) / 2**20, torch.cuda.mem_get_info(place)[1] / 2**20
        else:
            free = available_memory_mb()
            if free is None:
                return
            need, there = peak_memory_mb(), free
        value, limit = f"{need:,.0f} MB", f"{MEMORY_SHARE * there:,.0f} MB"
        advice = "lower batch_size, turn on gradient checkpointing where the model has it, or use a machine with more memory"
        self.checks.append(ok("memory", value, limit) if need <= MEMORY_SHARE * there else fail("memory", value, limit, advice))

    def _disk(self, model: TrainyardModel) -> None:
        state = sum(t.numel() * t.element_size() for t in model.trainable_state().values())
        # A checkpoint holds weights and two moments; one is written before an old one goes; the best weights lie beside.
        need = (self.job["checkpoint"]["keep"] + 1) * 3 * state + 2 * state
        free = free_bytes(self.checkpoints)
        value, limit = f"{need / 1e6:,.1f} MB for checkpoints", f"{free / 1e6:,.0f} MB free"
        if need > free:
            self.checks.append(fail("disk", value, limit, f"{(need - free) / 1e6:,.0f} MB are missing: make room or lower checkpoint.keep"))
        else:
            much = need > free / 2
            self.checks.append((warn if much else ok)("disk", value, limit, "more than half of what is free: make room" if much else ""))

    def _predict_time(self, trial: Trial, items: int, held: int) -> None:
        job = self.job
        batch = job["batch_size"]
        passes = job["epochs"] * (math.ceil(items / batch) + EVALUATION * math.ceil(held / batch))
        typical, least, most = np.median(trial.seconds), min(trial.seconds), max(trial.seconds)
        minutes, low, high = (passes * s / 60 for s in (typical, 0.8 * least, 1.5 * most))
        load = float(np.median(trial.load_seconds))
        bound = "loading" if load > 0.5 * typical else "compute"
        self.prediction = {
            "minutes": round(minutes, 5), "low": round(low, 5), "high": round(high, 5), "bound": bound,
            "steps": job["epochs"] * math.ceil(items / (batch * job["accumulate"])),
            "seconds_per_batch": round(float(typical), 5), "load_seconds_per_batch": round(load, 5), "items": items,
        }  # fmt: skip
        self.checks.append(ok("time", f"{_words(minutes)} ({_words(low)} to {_words(high)}), bound by {bound}", ""))
        slow = load > BATCH_SECONDS
        advice = "batches are slow to make: put the packs on a local disk, or lower batch_size" if slow else ""
        self.checks.append((warn if slow else ok)("batch", f"{load:.3f} s to load {batch} items", f"{BATCH_SECONDS} s", advice))


def table(report: dict[str, Any], width: int = 80) -> str:
    """The report for people, at most `width` columns wide."""
    import textwrap

    lines = [f"preflight {report['suite']}/{report['model']}: {report['verdict']}"]
    for check in report["checks"]:
        limit = f" (limit: {check['limit']})" if check["limit"] and check["verdict"] != "ok" else ""
        head = f"  {check['verdict']:<5}{check['check']:<12}"
        lines += textwrap.wrap(f"{check['value']}{limit}", width, initial_indent=head, subsequent_indent=" " * len(head)) or [head]
        if check["advice"]:
            lines += textwrap.wrap(check["advice"], width, initial_indent=" " * len(head) + "→ ", subsequent_indent=" " * len(head) + "  ")
    return "\n".join(lines)


def _words(minutes: float) -> str:
    """A time as a person says it."""
    if minutes < 2:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
