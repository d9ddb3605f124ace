"""Options of each data format: what the local copy turns a sample into. One class a format."""

from typing import Literal

from pydantic import Field

from trainyard.config.base import Frozen


class AudioFeatures(Frozen):
    """Log-mel frames of a clip of fixed length."""

    sample_rate: int = Field(16000, ge=4000, le=192000, description="Hz that every clip is resampled to")
    seconds: float = Field(2.0, gt=0, le=600, description="length of a clip; shorter ones are padded, longer ones cropped")
    n_fft: int = Field(1024, ge=64, description="FFT size in samples")
    hop: int = Field(256, ge=16, description="hop between frames in samples")
    mels: int = Field(64, ge=8, le=256, description="mel bands")


class MidiFeatures(Frozen):
    """Melody, chords and drum grid of a song, all quantised to sixteenths."""

    max_notes: int = Field(4096, ge=16, description="notes of a melody kept at most")
    max_bars: int = Field(512, ge=1, description="bars read at most")
    parse_seconds: float = Field(10.0, gt=0, description="a file that keeps its parser longer is refused")


class PairedFeatures(AudioFeatures):
    """A WAV beside the MIDI file of the same performance."""

    notes: int = Field(32, ge=4, le=4096, description="notes of the MIDI file kept, from its start")
    parse_seconds: float = Field(10.0, gt=0, description="a file that keeps its parser longer is refused")


class VideoFeatures(Frozen):
    """Frames of several cameras and the positions of the object they see."""

    cameras: int = Field(4, ge=1, le=16, description="cameras kept of each sample")
    frames: int = Field(32, ge=2, le=512, description="frames kept of each camera")
    size: int = Field(64, ge=16, le=512, description="height and width in pixels")


class TabularFeatures(Frozen):
    """Numeric and categorical columns of a table."""

    drop: tuple[str, ...] = Field((), description="columns that are never used as features")
    categorical: tuple[str, ...] = Field((), description="columns of categories beside those found to hold text")
    keep_equal_rows: bool = Field(
        False, description="rows that are equal are different people, not one entered twice; such a pair may then lie in two splits"
    )
    missing: tuple[str, ...] = Field((), description="cells that hold nothing beside empty ones, NA and the like: `['-9', '999']`")


class ChatFeatures(Frozen):
    """Prompt and answer of a row."""

    max_chars: int = Field(20000, ge=1, description="longer rows are refused and listed")


FEATURES: dict[str, type[Frozen]] = {
    "audio": AudioFeatures,
    "midi": MidiFeatures,
    "paired": PairedFeatures,
    "video": VideoFeatures,
    "tabular": TabularFeatures,
    "chat": ChatFeatures,
}
FormatName = Literal["audio", "midi", "paired", "video", "tabular", "chat"]
