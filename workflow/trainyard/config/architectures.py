"""The architectures by name: the options each takes, the data it reads, where its code is. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from trainyard.config.base import Frozen


def _check_heads(options: "SequenceOptions | GrooveOptions | PerformanceOptions | TokenOptions", name: str) -> None:
    """Raises ValueError where the attention heads cannot share the width of that name."""
    if (width := getattr(options, name)) % options.heads:
        raise ValueError(f"heads ({options.heads}) must divide {name} ({width})")


class EmotionOptions(Frozen):
    width: int = Field(16, ge=4, description="channels of the first convolution")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the classifier")
    mask_mels: int = Field(4, ge=0, description="mel bands hidden at random in training")
    shift_mels: int = Field(0, ge=0, description="mel bands that a clip is moved up or down by at most in training")


class DynamicsOptions(Frozen):
    width: int = Field(48, ge=8, description="channels of the dilated convolutions")
    layers: int = Field(4, ge=1, le=12, description="dilated layers; the dilation doubles with each")


class SequenceOptions(Frozen):
    width: int = Field(64, ge=8, description="model width")
    layers: int = Field(2, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads; they divide width")
    context: int = Field(128, ge=8, description="tokens a window")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after attention and feed-forward")
    transpose: int = Field(5, ge=0, le=11, description="semitones of random transposition in training")

    @model_validator(mode="after")
    def _heads_fit(self):
        _check_heads(self, "width")
        return self


class HarmonyOptions(Frozen):
    width: int = Field(64, ge=8, description="width of the chord embedding")
    hidden: int = Field(96, ge=8, description="hidden units of the GRU")
    context: int = Field(33, ge=4, description="bars a window")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the output")
    transpose: bool = Field(True, description="random transposition in training")


class GrooveOptions(Frozen):
    width: int = Field(64, ge=8, description="model width")
    layers: int = Field(2, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads; they divide width")

    @model_validator(mode="after")
    def _heads_fit(self):
        _check_heads(self, "width")
        return self


class PerformanceOptions(Frozen):
    width: int = Field(64, ge=8, description="width of each encoder")
    channels: int = Field(16, ge=4, description="channels of the first audio convolution")
    layers: int = Field(2, ge=1, description="transformer blocks of the MIDI encoder")
    heads: int = Field(4, ge=1, description="attention heads of the MIDI encoder; they divide width")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the MIDI encoder and before the scores")
    mask_mels: int = Field(0, ge=0, description="mel bands hidden at random in training")
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")

    @model_validator(mode="after")
    def _heads_fit(self):
        _check_heads(self, "width")
        return self


class ExtractorOptions(Frozen):
    feature_dim: int = Field(1024, ge=16, description="size of the feature vector an extractor returns for a camera")
    width: int = Field(16, ge=4, description="channels of the first convolution")
    position_weight: float = Field(1.0, ge=0, description="weight of the standardised position error beside the class loss")


class SlowFastOptions(ExtractorOptions):
    alpha: int = Field(8, ge=1, description="the slow pathway sees every alpha-th frame")
    beta: float = Field(0.25, gt=0, le=1, description="channels of the fast pathway, as a share of the slow one's")


class TokenOptions(ExtractorOptions):
    layers: int = Field(2, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads; they divide token_width")
    token_width: int = Field(96, ge=16, description="width of a token")

    @model_validator(mode="after")
    def _heads_fit(self):
        _check_heads(self, "token_width")
        return self


class MagViTOptions(TokenOptions):
    bits: int = Field(24, ge=4, le=64, description="bits of a token's code")
    tube: int = Field(4, ge=1, description="frames that one token stands for")


class TabularOptions(Frozen):
    width: int = Field(64, ge=4, description="hidden units")
    layers: int = Field(2, ge=1, description="hidden layers")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout after each hidden layer")


class LoraOptions(Frozen):
    r: int = Field(8, ge=1, le=1024, description="rank of the adapter")
    alpha: int = Field(16, ge=1, description="LoRA alpha; the update is scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: tuple[str, ...] | None = Field(
        None, description="layers that get an adapter, by the ends of their names; null: every linear layer but the output"
    )
    max_length: int = Field(512, ge=16, description="tokens of a sample at most; longer ones are reported and left out")
    answers: Literal["last", "every"] = Field(
        "last", description="what is learned of a conversation: its last answer, or every answer of the assistant"
    )
    packing: bool = Field(False, description="several rows in one sequence of max_length, kept apart by positions and mask")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="type of the base's weights; auto: bfloat16 where a GPU computes in it, else float32"
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")
    generate: int = Field(32, ge=0, description="held-out prompts answered greedily for the validity figures")


@dataclass(frozen=True)
class Spec:
    """An architecture: `target` is `module:class`, `headline` the metric that stands for it in the tables."""

    target: str
    format: str
    options: type[Frozen]
    headline: str
    attention: bool = False  # whether it has attention maps for the report


ARCHITECTURES: dict[str, Spec] = {
    "emotion_recognizer": Spec("trainyard.models.emotion_recognizer:EmotionRecognizer", "audio", EmotionOptions, "accuracy"),
    "dynamics_engine": Spec("trainyard.models.dynamics_engine:DynamicsEngine", "audio", DynamicsOptions, "rmse"),
    "harmony_predictor": Spec("trainyard.models.harmony_predictor:HarmonyPredictor", "midi", HarmonyOptions, "nll"),
    "melody_transformer": Spec("trainyard.models.melody_transformer:MelodyTransformer", "midi", SequenceOptions, "nll"),
    "groove_predictor": Spec("trainyard.models.groove_predictor:GroovePredictor", "midi", GrooveOptions, "rmse"),
    "audio_only": Spec("trainyard.models.audio_only:AudioOnly", "paired", PerformanceOptions, "r2"),
    "midi_only": Spec("trainyard.models.midi_only:MidiOnly", "paired", PerformanceOptions, "r2"),
    "fusion": Spec("trainyard.models.fusion:Fusion", "paired", PerformanceOptions, "r2"),
    "i3d": Spec("trainyard.models.i3d:I3D", "video", ExtractorOptions, "accuracy"),
    "slowfast": Spec("trainyard.models.slowfast:SlowFast", "video", SlowFastOptions, "accuracy"),
    "transformer": Spec("trainyard.models.transformer:FrameTransformer", "video", TokenOptions, "accuracy", attention=True),
    "magvit": Spec("trainyard.models.magvit:MagViT", "video", MagViTOptions, "accuracy", attention=True),
    "tabular_mlp": Spec("trainyard.models.tabular_mlp:TabularMLP", "tabular", TabularOptions, "auc"),
    "lora": Spec("trainyard.lora.model:LoraChat", "chat", LoraOptions, "nll"),
}
