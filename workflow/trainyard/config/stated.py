"""What the owners of a suite say about time and size: for plans and advice alone, so a change of it runs nothing again."""

from pydantic import Field, model_validator

from trainyard.config.base import Frozen


class StatedTraining(Frozen):
    """More about a model's `hours`."""

    hours_range: tuple[float, float] | None = Field(None, description="least and most hours; null: 0.6 to 1.6 times the hours")
    gpu: bool = Field(False, description="the hours are those of a GPU; on a machine without one the plan warns")
    raw_hours: float | None = Field(None, gt=0, description="hours where every epoch reads the raw files, without a local copy")

    @model_validator(mode="after")
    def _ordered(self):
        if self.hours_range is not None and not 0 < self.hours_range[0] <= self.hours_range[1]:
            raise ValueError(f"hours_range: needs two hours above 0, the least first, found {list(self.hours_range)}")
        return self


class StatedData(Frozen):
    """Of a dataset."""

    copy_hours: float | None = Field(None, gt=0, description="hours of its local copy")
    gigabytes: float | None = Field(None, gt=0, description="GB of its local copy, until it is made: what a plan brings to machines")
