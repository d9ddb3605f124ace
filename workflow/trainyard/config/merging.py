"""How the adapters of a model's shards become one, and what the result must pass."""

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from trainyard.config.base import Frozen


class Acceptance(Frozen):
    """What a merged adapter must pass. A limit that is null is not asked."""

    max_loss: float | None = Field(0.5, gt=0, description="answer loss on held-out rows, nats a token")
    max_megabytes: float | None = Field(200, gt=0, description="size of the adapter file")
    min_valid_json: float | None = Field(0.9, ge=0, le=1, description="share of answers that parse as JSON")
    min_schema: float | None = Field(None, ge=0, le=1, description="share of answers that are a plan: keys and kinds of values")
    min_geometry: float | None = Field(
        None, ge=0, le=1, description="share of plans whose rooms fit, do not overlap, add up and can all be reached"
    )
    max_seconds: float | None = Field(5, gt=0, description="median seconds for one answer")
    max_memory_gb: float | None = Field(8, gt=0, description="peak memory while answering")


MergeStrategy = Literal["average", "weighted", "best", "ties", "dare", "magnitude_prune"]


class Merge(Frozen):
    """How the adapters of a model's shards become one."""

    strategies: tuple[MergeStrategy, ...] = Field(
        ("average", "weighted", "best"),
        min_length=1,
        description="tried in this order; the first that is accepted stands; `best` comes last where it is not named",
    )
    rank: int | None = Field(None, ge=1, description="rank of the merged adapter; null: exact, the sum of the ranks")
    tolerance: float | None = Field(
        None, gt=0, lt=1, description="average, weighted: the smallest rank whose relative error is at most this; not with rank"
    )
    weights: Literal["loss", "samples"] | tuple[float, ...] = Field(
        "loss", description="weighted: by 1 / validation loss, by training samples, or a list with a number for each shard"
    )
    density: float = Field(0.5, gt=0, le=1, description="ties, dare, magnitude_prune: share of the values that stays")
    seed: int = Field(0, ge=0, description="dare: which values are dropped")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="number type of the merged adapter")
    prompts: tuple[str, ...] = Field((), max_length=20, description="prompts of your own; the accepted adapter's answers are in the report")
    acceptance: Acceptance = Field(Acceptance(), description="what the merge must pass")

    @field_validator("strategies")
    @classmethod
    def _ends_with_best(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return value if "best" in value else (*value, "best")

    @model_validator(mode="after")
    def _fits_together(self):
        if self.rank is not None and self.tolerance is not None:
            raise ValueError("rank and tolerance exclude each other; set one of them")
        if len(set(self.strategies)) < len(self.strategies):
            raise ValueError("a strategy is named twice")
        if isinstance(self.weights, tuple) and not (all(w >= 0 for w in self.weights) and 0 < sum(self.weights) < math.inf):
            raise ValueError(f"weights must be 0 or more, with a sum above 0, not {', '.join(f'{w:g}' for w in self.weights)}")
        return self
