"""The settings, typed: datasets, models and suites. Defaults, JSON schema and config/README.md all come from here."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.base import Frozen, nearest
from trainyard.config.dataset import Dataset
from trainyard.config.deadline import read_deadline
from trainyard.config.merging import Merge
from trainyard.config.stated import StatedTraining


class Checkpoint(Frozen):
    """When training saves, and what is kept."""

    every_epochs: int = Field(2, ge=0, description="save after that many epochs; 0: not by epochs")
    every_steps: int = Field(0, ge=0, description="save after that many optimiser steps; 0: not by steps")
    every_minutes: float = Field(5.0, ge=0, description="save after that many minutes; 0: not by time")
    keep: int = Field(2, ge=1, description="checkpoints kept beside the best")


class Base(Frozen):
    """How the default base model is built: a tiny Llama and its tokenizer, pretrained on a chat dataset."""

    dataset: str = Field("plans_base", description="dataset of the suite that it is pretrained on")
    width: int = Field(64, ge=16, description="hidden size")
    layers: int = Field(4, ge=1, description="layers")
    heads: int = Field(4, ge=1, description="attention heads")
    feed_forward: int = Field(192, ge=16, description="width of the feed-forward layers")
    vocabulary: int = Field(512, ge=300, description="tokens of the byte-level BPE tokenizer")
    context: int = Field(512, ge=32, description="positions")
    steps: int = Field(800, ge=1, description="optimiser steps")
    batch_size: int = Field(16, ge=1, description="rows a step")
    lr: float = Field(2e-3, gt=0, description="learning rate")
    prompt_loss: float = Field(0.1, ge=0, le=1, description="weight of the prompt's tokens in the loss")
    seed: int = Field(0, description="seed of weights and order")


class Model(Frozen):
    """One model of a suite: its architecture, its data and its training."""

    architecture: str = Field(description="name of the architecture")
    dataset: str = Field(description="name of the dataset in the same suite")
    epochs: int = Field(10, ge=1, description="passes over the training split")
    batch_size: int = Field(16, ge=1, description="samples an optimiser step sees at once")
    accumulate: int = Field(1, ge=1, description="batches summed for one optimiser step")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(1e-2, ge=0, description="decoupled weight decay of AdamW")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate rises")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="how the rate falls after the warm-up")
    schedule_epochs: int | None = Field(
        None, ge=1, description="epochs that the schedule spans, where training is to go on later; null: those that are trained"
    )
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    select: Literal["best", "last"] = Field("best", description="which epoch's weights are kept: best on validation, or last")
    seed: int = Field(0, description="first seed")
    seeds: int = Field(1, ge=1, le=100, description="repeats with seed, seed + 1, …; of shards, with a merge each")
    checkpoint: Checkpoint = Field(Checkpoint(), description="when training saves")
    base_model: str | None = Field(None, description="LoRA: path or hub name of the base; null: the tiny one is built")
    base: Base = Field(Base(), description="LoRA: how the tiny base is built")
    merge: Merge = Field(Merge(), description="LoRA: how the shards' adapters are merged")
    options: Any = Field({}, description="options of the architecture")
    threads: int = Field(1, ge=1, description="CPU threads of a training")
    mem_mb: int = Field(1500, ge=1, description="memory of a training, MB, for the scheduler")
    cap_memory: bool = Field(
        False, description="CPU: hold a training to mem_mb; beyond it the micro-batch is halved, where the kernel would kill (Linux)"
    )
    runtime: int = Field(60, ge=1, description="minutes of a training, for the scheduler")
    gpu: int = Field(0, ge=0, description="GPUs of a training, for the scheduler")
    hours: float | None = Field(None, gt=0, description="hours its owners state for it, for forecasts")
    stated: StatedTraining = Field(StatedTraining(), description="what they say besides, for plans")

    @field_validator("architecture")
    @classmethod
    def _known(cls, value):
        if value not in ARCHITECTURES:
            raise ValueError(f"unknown architecture '{value}'{nearest(value, list(ARCHITECTURES))}")
        return value

    @model_validator(mode="after")
    def _schedule_spans_the_epochs(self):
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise ValueError(f"schedule_epochs ({self.schedule_epochs}) end before the epochs that are trained ({self.epochs})")
        return self


class Discover(Frozen):
    """Training scripts found in a folder; each becomes a job of its own."""

    root: str = Field(description="folder that is searched")
    include: tuple[str, ...] = Field(("train_*.py",), description="patterns of file names; with a slash (`**/train_*.py`) below the root")
    exclude: tuple[str, ...] = Field((), description="patterns of file names left out")
    minutes: float = Field(60, gt=0, description="a script that runs longer is stopped with all that it started")
    hours: float | None = Field(None, gt=0, description="hours that a script takes, for forecasts and plans")
    epochs: int | None = Field(None, ge=1, description="passed on to scripts that mention such a flag; `epochs` for all models is stronger")
    folds: int | None = Field(None, ge=2, le=100, description="passed on to scripts that mention such a flag")
    batch_size: int | None = Field(None, ge=1, description="passed on to scripts that mention such a flag")
    extra_args: tuple[str, ...] = Field((), description="passed on to every script, before those given for all")
    threads: int = Field(1, ge=1, description="CPU threads of a script")
    mem_mb: int = Field(1500, ge=1, description="memory of a script, MB, for the scheduler")
    stay: bool = Field(False, description="scripts run where snakemake is called, where their data are, though other machines take jobs")


class Promote(Frozen):
    """After a short budget the best runs go on to a long one, chosen on validation data alone."""

    keep: int = Field(2, ge=1, description="runs that go on, as promoted-1, promoted-2, …")
    from_epochs: int = Field(ge=1, description="epochs of every run that takes part; the rate's schedule is the long run's from the start")
    to_epochs: int = Field(ge=2, description="epochs of a promoted run, counted from the beginning")
    models: tuple[str, ...] = Field((), description="models that take part (patterns); empty: all of the suite")

    @model_validator(mode="after")
    def _longer(self):
        if self.to_epochs <= self.from_epochs:
            raise ValueError(f"to_epochs ({self.to_epochs}) must be more than from_epochs ({self.from_epochs})")
        return self


class Suite(Frozen):
    """The datasets and models that belong together."""

    title: str = Field("", description="one line for the report")
    datasets: dict[str, Dataset] = Field({}, description="datasets by name")
    models: dict[str, Model] = Field({}, description="models by name")
    discover: Discover | None = Field(None, description="training scripts found in a folder")
    promote: Promote | None = Field(None, description="the best runs after a short budget go on to a long one; null: none does")
    ensemble: bool | tuple[str, ...] = Field(
        False, description="one more row, the mean of several runs' predictions; true: of all that answer the same question; or patterns"
    )


class Settings(Frozen):
    """Everything: which suites run, at which scale, and what is changed for all models at once."""

    suites: tuple[str, ...] = Field(("kmidi", "crescendai", "mono_to_3d", "housebrain", "aimedres"), description="suites that run")
    scale: Literal["demo", "full"] = Field("demo", description="demo: minutes on two cores; full: the sizes of the five systems")
    only: tuple[str, ...] = Field((), description="only these models, runs or suites (patterns)")
    exclude: tuple[str, ...] = Field((), description="all but these models, runs or suites (patterns)")
    worker: str | None = Field(
        None, description="only what this machine is to do: by results/plan.json, where it knows the machine, else by the machines file"
    )
    machines: str | None = Field(None, description="the machines file; null: config/machines.yaml")
    epochs: int | None = Field(None, ge=1, description="epochs of every model")
    batch_size: int | None = Field(None, ge=1, description="batch size of every model")
    folds: int | None = Field(None, ge=2, le=100, description="folds of every dataset that has folds")
    seeds: int | None = Field(None, ge=1, le=100, description="seeds of every model")
    subset_size: int | None = Field(None, ge=1, description="samples of every dataset at most")
    gpu_slots: int = Field(1, ge=1, le=64, description="runs that one GPU holds at once")
    extra_args: tuple[str, ...] = Field((), description="passed on to found scripts")
    deadline: str | None = Field(
        None, description="when running trainings save and leave: 2026-11-24T18:00, 18:00, or from the start of the call 7h30m, 45m"
    )
    tensorboard: bool = Field(False, description="write events for TensorBoard below checkpoints/{suite}/{run}/tensorboard")

    @field_validator("worker", mode="before")
    @classmethod
    def _a_name(cls, value):
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value  # --config worker=1

    @field_validator("deadline", mode="before")
    @classmethod
    def _a_time(cls, value):
        if isinstance(value, int) and not isinstance(value, bool):  # YAML makes the number 1080 of 18:00
            value = f"{value // 60}:{value % 60:02}"
        if isinstance(value, datetime):
            value = value.isoformat()
        if isinstance(value, str):
            read_deadline(value)
        return value
