"""The settings of one dataset, typed: all that index, split and local copy are told."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from trainyard.config.base import Frozen
from trainyard.config.features import FormatName
from trainyard.config.stated import StatedData


class ValueRule(Frozen):
    """Where a sample's label or group is found: one of parent, column and field, or a pattern on the path; a pattern beside one of
    the three takes a part of its value."""

    pattern: str | None = Field(
        None,
        description="regular expression on the path below the root, or on the value of parent, column or field; its first group counts",
    )
    parent: int | None = Field(None, ge=1, description="name of the folder that many levels above the file")
    column: str | None = Field(None, description="column of the table")
    field: str | None = Field(None, description="field of the JSON row, dotted for nested ones")
    map: dict[str, str] = Field({}, description="new names for values; values not named stay as they are")

    @model_validator(mode="after")
    def _one_source(self):
        given = [k for k in ("parent", "column", "field") if getattr(self, k) is not None]
        if len(given) > 1 or (not given and self.pattern is None):
            raise ValueError(f"give exactly one of parent, column and field, or a pattern on the path, not {given or 'none'}")
        if self.pattern is not None:
            import re

            try:
                groups = re.compile(self.pattern).groups
            except re.error as error:
                raise ValueError(f"pattern is not a regular expression: {error}") from None
            if groups < 1:
                raise ValueError("pattern needs a group in parentheses: its text is the value")
        return self


class Dataset(Frozen):
    """A folder or table of samples, and how it is read, labelled, grouped and divided."""

    format: FormatName = Field(description="what the samples are")
    root: str | None = Field(None, description="folder or file of your own data; without it the demo data are generated")
    glob: tuple[str, ...] = Field(("**/*",), description="which files below the root are samples")
    generator: str | None = Field(None, description="generator of the demo data")
    generate: dict[str, Any] = Field({}, description="options of the generator")
    label: ValueRule | None = Field(None, description="where a sample's label is")
    group: ValueRule | None = Field(None, description="what must never be split: singer, song, patient, house")
    annotations: str | None = Field(None, description="file of annotations below the root (JSONL, JSON or CSV)")
    fields: dict[str, str] = Field(
        {}, description="names of fields in the rows: chat: prompt, context behind it, answer, or messages; paired: audio, midi, scores"
    )
    validation: float = Field(0.15, gt=0, lt=0.9, description="share of the groups for validation")
    test: float = Field(0.15, gt=0, lt=0.9, description="share of the groups for the test")
    folds: int = Field(0, ge=0, le=100, description="folds of cross-validation; 0 for one split")
    shards: int = Field(0, ge=0, le=10000, description="shards of the training split, exact and disjoint; 0 for none")
    stratify: bool = Field(True, description="balance labels over folds")
    seed: int = Field(0, description="seed of the split")
    subset_size: int | None = Field(None, ge=1, description="samples used at most, drawn by hash")
    stated: StatedData = Field(StatedData(), description="what its owners say of its copy, for plans")
    features: Any = Field({}, description="options of the format: what the local copy turns a sample into")

    @field_validator("glob", mode="before")
    @classmethod
    def _one_glob(cls, value):
        return (value,) if isinstance(value, str) else value

    @field_validator("glob")
    @classmethod
    def _some_glob(cls, value):
        if not value or not all(value):
            raise ValueError("give a pattern of file names, such as '**/*.wav'")
        return value

    @model_validator(mode="after")
    def _whole(self):
        if self.root is None and self.generator is None:
            raise ValueError("needs a root (your data) or a generator (demo data)")
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        if self.folds == 1:
            raise ValueError("folds must be 0 (none) or at least 2")
        return self
